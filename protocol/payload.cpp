#include "protocol/payload.h"

#include "protocol/text.h"

namespace rivulet::payload {
namespace {

constexpr std::size_t table_bytes = 8;  // segment count - 1, size of the one segment in words

}  // namespace

Bytes to_bytes(capnp::MessageBuilder& builder) {
  const auto segments = builder.getSegmentsForOutput();
  if (segments.size() == 1) {
    const auto segment = segments[0].asBytes();
    Bytes bytes;
    bytes.reserve(table_bytes + segment.size());
    append_le(bytes, std::uint32_t{0});
    append_le(bytes, static_cast<std::uint32_t>(segments[0].size()));
    const auto* begin = reinterpret_cast<const std::byte*>(segment.begin());
    bytes.insert(bytes.end(), begin, begin + segment.size());
    return bytes;
  }
  // The first guess at the size was too small: copying into one segment costs more, but is rare.
  std::size_t words = 1;
  for (const auto& segment : segments) words += segment.size();
  capnp::MallocMessageBuilder single(static_cast<unsigned>(words + 8));
  const auto root = builder.getRoot<capnp::AnyPointer>().asReader();
  single.setRoot(root);
  return to_bytes(single);
}

Result<std::unique_ptr<Reader>> Reader::open(ByteSpan bytes) {
  if (bytes.size() < table_bytes) return fail(Errc::corrupt, "a message is shorter than its segment table");
  if (load_le<std::uint32_t>(bytes) != 0) return fail(Errc::corrupt, "a message has more than one segment");
  const std::uint64_t words = load_le<std::uint32_t>(bytes, 4);
  if (words * sizeof(capnp::word) != bytes.size() - table_bytes || words == 0) {
    return fail(Errc::corrupt, "a message of " + std::to_string(bytes.size()) + " bytes claims to have " +
                                   std::to_string(words) + " words");
  }
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 4 * words + 64;
  options.nestingLimit = 16;
  auto reader = std::make_unique<Reader>();
  reader->words_ = kj::heapArray<capnp::word>(words);
  std::memcpy(reader->words_.begin(), bytes.data() + table_bytes, words * sizeof(capnp::word));
  reader->segment_ = reader->words_.asPtr();
  reader->reader_ =
      std::make_unique<capnp::SegmentArrayMessageReader>(kj::arrayPtr(&reader->segment_, 1), options);
  return reader;
}

Status read_text(capnp::Text::Reader source, std::string& out, const char* field) {
  const std::string_view text(source.cStr(), source.size());
  if (text.size() > wire_text_bytes_max) return fail(Errc::corrupt, std::string(field) + " is too long");
  if (!is_printable(text)) return fail(Errc::corrupt, std::string(field) + " is not printable UTF-8");
  out = text;
  return {};
}

}  // namespace rivulet::payload
