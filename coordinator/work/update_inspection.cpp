#include "coordinator/work/update_inspection.h"

#include <algorithm>

#include "protocol/codec/mixed.h"

namespace rivulet::coordinator {

Result<std::unique_ptr<SegmentSource>> open_update(const BlobStore& blobs, const ContentId& content,
                                                   std::uint64_t bytes, std::uint16_t codec,
                                                   const ParameterLayout& layout) {
  const auto known = codec_from_number(codec);
  if (!known) return std::unexpected(known.error());
  ReadBytes read = [&blobs, content](std::uint64_t offset, std::span<std::byte> out) -> Status {
    const auto piece = blobs.read(content, offset, out.size());
    if (!piece) return std::unexpected(piece.error());
    if (piece->size() != out.size()) return fail(Errc::corrupt, "the content ends too early");
    std::copy(piece->begin(), piece->end(), out.begin());
    return {};
  };
  return open_mixed(*known, std::move(read), bytes, layout.size(), ranges_of(layout, TensorKind::statistic));
}

Result<Inspection> inspect_update(const effect::FetchUpdate& update, const ParameterLayout& layout,
                                  const BlobStore& blobs) {
  const auto judge = [](Error error) -> Result<Inspection> {
    if (error.code == Errc::storage || error.code == Errc::not_found || error.code == Errc::busy)
      return std::unexpected(std::move(error));
    const Reason reason = error.reason == Reason::none ? Reason::corrupt_content : error.reason;
    return Inspection(std::unexpected(Refusal{reason, std::move(error.detail)}));
  };
  const auto segments = open_update(blobs, update.content, update.bytes, update.codec, layout);
  if (!segments) return judge(segments.error());
  const auto statistics = inspect(**segments, ranges_of(layout, TensorKind::parameter));
  if (!statistics) return judge(statistics.error());
  return Inspection(UpdateFacts{statistics->norm, update.bytes});
}

}  // namespace rivulet::coordinator
