#pragma once

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <memory>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"

/// Reading and writing Cap'n Proto messages of exactly one segment: frames and signed payloads. For
/// source files only; the headers that others include speak of plain values.
namespace rivulet::payload {

/// @param builder holds one segment. @return segment table and segment.
Bytes to_bytes(capnp::MessageBuilder& builder);

/// A reader over untrusted bytes: one segment, no byte more or less than it says, nesting at most 16,
/// and a traversal limit of four times the size.
class Reader {
 public:
  static Result<std::unique_ptr<Reader>> open(ByteSpan bytes);
  template <typename Root>
  typename Root::Reader root() {
    return reader_->getRoot<Root>();
  }

 private:
  kj::Array<capnp::word> words_;
  kj::ArrayPtr<const capnp::word> segment_;
  std::unique_ptr<capnp::SegmentArrayMessageReader> reader_;
};

/// Runs `read(root)`, which gives a Result, and turns what Cap'n Proto throws on bad pointers or
/// limits into Errc::corrupt.
template <typename Root, typename Read>
auto read(ByteSpan bytes, Read&& read_root) -> decltype(read_root(std::declval<typename Root::Reader>())) {
  auto reader = Reader::open(bytes);
  if (!reader) return std::unexpected(reader.error());
  try {
    return read_root((*reader)->template root<Root>());
  } catch (const kj::Exception& error) {
    return fail(Errc::corrupt, std::string("malformed message: ") + error.getDescription().cStr());
  }
}

inline capnp::Data::Reader data(ByteSpan bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}
inline ByteSpan span(capnp::Data::Reader data) {
  return {reinterpret_cast<const std::byte*>(data.begin()), data.size()};
}
template <std::size_t N, typename Tag>
capnp::Data::Reader data(const FixedId<N, Tag>& id) {
  return data(id.span());
}

/// Ids are zero when absent, as fields that an older peer does not know are.
template <typename Id>
Status read_id(capnp::Data::Reader source, Id& out, const char* field) {
  if (source.size() == 0) {
    out = {};
    return {};
  }
  const auto id = Id::from_bytes(span(source));
  if (!id) {
    return fail(Errc::corrupt, std::string(field) + " has " + std::to_string(source.size()) +
                                   " bytes instead of " + std::to_string(Id::size));
  }
  out = *id;
  return {};
}

/// Short text: at most wire_text_bytes_max, and is_printable() (protocol/text.h).
Status read_text(capnp::Text::Reader source, std::string& out, const char* field);

}  // namespace rivulet::payload
