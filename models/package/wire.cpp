#include "models/package/wire.h"

#include <spdlog/fmt/fmt.h>

#include "models/package/release.h"

namespace rivulet::wire_form {

Status read_texts(capnp::List<capnp::Text>::Reader source, std::vector<std::string>& out, const char* field) {
  out.clear();
  for (const auto text : source) {
    if (const Status read = payload::read_text(text, out.emplace_back(), field); !read) return read;
  }
  return {};
}

void write_texts(const std::vector<std::string>& source, capnp::List<capnp::Text>::Builder out) {
  for (std::size_t i = 0; i < source.size(); ++i) out.set(static_cast<unsigned>(i), source[i].c_str());
}

Status check_size(ByteSpan payload) {
  if (payload.size() <= document_bytes_max) return {};
  return fail(Errc::too_large, fmt::format("{} bytes; a signed document of a model has at most {}",
                                           payload.size(), document_bytes_max));
}

Status as_corrupt(Status checked) {
  if (!checked && checked.error().code == Errc::invalid) checked.error().code = Errc::corrupt;
  return checked;
}

}  // namespace rivulet::wire_form
