#pragma once

#include <capnp/list.h>

#include <span>
#include <string>
#include <vector>

#include "models/package/package.capnp.h"
#include "models/package/snapshot.h"
#include "protocol/now.h"
#include "protocol/payload.h"

/// Pieces that the codecs of releases and manifests share. For this folder's source files only.
namespace rivulet::wire_form {

template <typename Source, typename List>
void write_list(const Source& source, List list) {
  for (std::size_t i = 0; i < source.size(); ++i) list.set(static_cast<unsigned>(i), source[i]);
}

template <typename T, typename List>
std::vector<T> read_list(List list) {
  std::vector<T> values;
  values.reserve(list.size());  // No more than a few times the payload's size, by the traversal limit.
  for (const T value : list) values.push_back(value);
  return values;
}

/// As payload::read_text for each, with `field` in the error.
Status read_texts(capnp::List<capnp::Text>::Reader source, std::vector<std::string>& out, const char* field);
void write_texts(const std::vector<std::string>& source, capnp::List<capnp::Text>::Builder out);

/// The first error of a row of reads that each give a Status; later ones still run.
class Reads {
 public:
  template <typename Id>
  Reads& id(capnp::Data::Reader source, Id& out, const char* field) {
    return keep(payload::read_id(source, out, field));
  }
  Reads& text(capnp::Text::Reader source, std::string& out, const char* field) {
    return keep(payload::read_text(source, out, field));
  }
  Reads& texts(capnp::List<capnp::Text>::Reader source, std::vector<std::string>& out, const char* field) {
    return keep(read_texts(source, out, field));
  }
  Reads& keep(Status status) {
    if (status_ && !status) status_ = std::move(status);
    return *this;
  }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  Status status_;
};

/// An enumerator of ours for one on the wire; both count alike from 0 to `last`. @return unsupported.
template <typename Ours, typename Theirs>
Status read_enum(Theirs source, Ours last, Ours& out, const char* field) {
  const auto value = static_cast<std::uint16_t>(source);
  if (value > static_cast<std::uint16_t>(last)) {
    return fail(Errc::unsupported, std::string(field) + " has the value " + std::to_string(value) +
                                       ", which this build does not know: update it");
  }
  out = static_cast<Ours>(value);
  return {};
}

inline std::int64_t milliseconds(UtcTime time) { return time.time_since_epoch().count(); }
inline UtcTime utc(std::int64_t value) { return UtcTime(std::chrono::milliseconds(value)); }
/// What calendars and sums can handle: the years 1970 to 9999.
inline bool is_plausible(UtcTime time) {
  constexpr auto end = std::chrono::sys_days(std::chrono::year(10000) / 1 / 1);
  return time >= UtcTime{} && time < end;
}

/// too_large before a byte of it is read.
Status check_size(ByteSpan payload);

/// What is wrong with a decoded document is that its bytes are.
Status as_corrupt(Status checked);

}  // namespace rivulet::wire_form
