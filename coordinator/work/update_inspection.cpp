#include "coordinator/work/update_inspection.h"

#include <algorithm>

#include "protocol/codec/codec.h"

namespace rivulet::coordinator {
std::vector<CoordinateRange> ranges_of(const ParameterLayout& layout, TensorKind kind) {
  std::vector<CoordinateRange> ranges;
  std::size_t at = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    const std::size_t end = at + tensor.size();
    if (tensor.kind == kind && end > at) {
      if (!ranges.empty() && ranges.back().end == at) {
        ranges.back().end = end;
      } else {
        ranges.push_back({at, end});
      }
    }
    at = end;
  }
  return ranges;
}

std::expected<UpdateFacts, Refusal> inspect_update(const effect::FetchUpdate& update,
                                                   const ParameterLayout& layout, const BlobStore& blobs) {
  const auto refuse = [](const Error& error) {
    const Reason reason = error.reason == Reason::none ? Reason::corrupt_content : error.reason;
    return std::unexpected(Refusal{reason, error.detail});
  };
  const auto codec = codec_from_number(update.codec);
  if (!codec) return refuse(codec.error());
  const ReadBytes read = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    auto bytes = blobs.read(update.content, offset, out.size());
    if (!bytes) return std::unexpected(bytes.error());
    if (bytes->size() != out.size()) return fail(Errc::corrupt, "the content ends too early");
    std::copy(bytes->begin(), bytes->end(), out.begin());
    return {};
  };
  const auto segments = open_segments(*codec, read, update.bytes, layout.size());
  if (!segments) return refuse(segments.error());
  const auto statistics = inspect(**segments, ranges_of(layout, TensorKind::parameter));
  if (!statistics) return refuse(statistics.error());
  return UpdateFacts{statistics->norm};
}

}  // namespace rivulet::coordinator
