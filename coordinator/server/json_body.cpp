#include "coordinator/server/json_body.h"

#include <spdlog/fmt/fmt.h>

namespace rivulet::coordinator {
namespace {

using nlohmann::json;

std::unexpected<Error> wrong(std::string_view key, std::string_view what) {
  return fail(Errc::invalid, fmt::format("\"{}\" {}", key, what));
}

/// The text of this key; null if there is none.
const std::string* text_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

template <typename Id>
Result<Id> id_at(const json& object, const char* key) {
  const std::string* text = text_at(object, key);
  const auto id = text == nullptr ? std::nullopt : Id::from_hex(*text);
  if (!id) return wrong(key, fmt::format("must be {} hexadecimal digits", 2 * Id::size));
  return *id;
}

}  // namespace

Result<json> parse_json_object(std::string_view text) {
  bool too_deep = false;
  const auto keep = [&too_deep](int depth, json::parse_event_t event, const json&) {
    const bool begins =
        event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    too_deep = too_deep || (begins && depth >= json_depth_max);
    return !too_deep;  // What comes after that takes no memory.
  };
  json object = json::parse(text, keep, false);
  if (too_deep)
    return fail(Errc::invalid, fmt::format("the body is nested deeper than {} levels", json_depth_max));
  if (!object.is_object()) return fail(Errc::invalid, "the body is not a JSON object");
  return object;
}

Result<SignedTrust> parse_trust_body(std::string_view text) {
  const auto body = parse_json_object(text);
  if (!body) return std::unexpected(body.error());
  const std::string* payload = text_at(*body, "payload");
  auto bytes = payload == nullptr ? std::nullopt : from_base64url(*payload);
  if (!bytes) return wrong("payload", "must be there, a text of Base64url");
  SignedTrust trust;
  trust.payload = std::move(*bytes);
  const auto signatures = body->find("signatures");
  if (signatures == body->end() || !signatures->is_array())
    return wrong("signatures", "must be a list of {\"key\", \"signature\"}");
  for (const json& entry : *signatures) {
    if (!entry.is_object()) return wrong("signatures", "must be a list of {\"key\", \"signature\"}");
    const auto key = id_at<PublicKey>(entry, "key");
    if (!key) return fail_at("signatures", key.error());
    const auto signature = id_at<Signature>(entry, "signature");
    if (!signature) return fail_at("signatures", signature.error());
    trust.signatures.push_back({*key, *signature});
  }
  return trust;
}

}  // namespace rivulet::coordinator
