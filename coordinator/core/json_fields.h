#pragma once

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "coordinator/core/events.h"
#include "models/package/snapshot.h"
#include "protocol/envelope.h"
#include "protocol/ids.h"
#include "protocol/now.h"

/// Fields of stored records. For this folder's source files only. Reading throws std::runtime_error or
/// nlohmann's exceptions, which parse_record() catches.
namespace rivulet::coordinator::json_fields {

using nlohmann::json;

template <std::size_t N, typename Tag>
json hex(const FixedId<N, Tag>& id) {
  return id.hex();
}

/// A missing number, text or flag reads as its default.
template <typename T>
T get(const json& object, const char* key, T otherwise = {}) {
  const auto at = object.find(key);
  return at == object.end() || at->is_null() ? otherwise : at->template get<T>();
}

/// A missing id is zero.
template <typename Id>
Id get_id(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) return {};
  const auto id = Id::from_hex(at->template get<std::string>());
  if (!id) throw std::runtime_error(std::string(key) + " is not an id");
  return *id;
}

inline UtcTime get_time(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) return {};
  const auto time = parse_rfc3339(at->get<std::string>());
  if (!time) throw std::runtime_error(std::string(key) + ": " + time.error().detail);
  return *time;
}

inline Bytes get_bytes(const json& object, const char* key) {
  const auto bytes = from_base64url(get<std::string>(object, key));
  if (!bytes) throw std::runtime_error(std::string(key) + " is not Base64url");
  return *bytes;
}

/// JSON has no infinities: what is not finite is stored as null and read as NaN.
inline json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
inline double get_number(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) return 0;
  return at->is_null() ? std::numeric_limits<double>::quiet_NaN() : at->get<double>();
}

inline json put_envelope(const Envelope& envelope) {
  return {{"payload", to_base64url(envelope.payload)}, {"signature", envelope.signature.hex()}};
}
inline Envelope get_envelope(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) return {};
  return {get_bytes(*at, "payload"), get_id<Signature>(*at, "signature")};
}

inline SnapshotForm get_form(const json& object, const char* key) {
  const auto text = get<std::string>(object, key);
  for (const SnapshotForm form :
       {SnapshotForm::fp32, SnapshotForm::int8, SnapshotForm::sparse_fp32, SnapshotForm::sparse_int8}) {
    if (text == name(form)) return form;
  }
  throw std::runtime_error(std::string(key) + " is no snapshot form: " + text);
}

inline std::optional<Metrics> get_metrics(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) return std::nullopt;
  return Metrics{get_number(*at, "accuracy"), get_number(*at, "loss"), get<std::uint64_t>(*at, "samples")};
}

/// Seconds or milliseconds as their count.
template <typename Duration>
Duration get_duration(const json& object, const char* key, Duration otherwise) {
  return Duration(get<std::int64_t>(object, key, otherwise.count()));
}

/// Parses `text` and runs `read(object)`. @return corrupt.
template <typename Record, typename Read>
Result<Record> parse(ByteSpan text, Read read) {
  try {
    const json object = json::parse(text_of(text));
    if (!object.is_object()) return fail(Errc::corrupt, "the stored record is not a JSON object");
    return read(object);
  } catch (const std::exception& error) {
    return fail(Errc::corrupt, std::string("the stored record: ") + error.what());
  }
}

}  // namespace rivulet::coordinator::json_fields
