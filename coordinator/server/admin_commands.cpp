#include "coordinator/server/admin_commands.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <atomic>
#include <charconv>

#include "coordinator/core/records.h"
#include "coordinator/core/views.h"
#include "coordinator/server/json_body.h"
#include "coordinator/server/release_body.h"
#include "models/package/snapshot.h"
#include "protocol/sha256.h"
#include "protocol/token.h"

namespace rivulet::coordinator {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr std::size_t key_digits_min = 8;
constexpr std::int64_t wait_s_max = 7 * 86400;
constexpr std::size_t audit_lines_max = 256;

int status_of(Errc code) {
  switch (code) {
    case Errc::invalid:
    case Errc::corrupt:
    case Errc::unsupported: return 400;
    case Errc::permission: return 401;
    case Errc::refused: return 403;
    case Errc::not_found: return 404;
    case Errc::conflict: return 409;
    case Errc::too_large: return 413;
    case Errc::busy:
    case Errc::cancelled:
    case Errc::disconnected: return 503;
    case Errc::timeout: return 504;
    case Errc::storage_full: return 507;
    case Errc::storage:
    case Errc::internal: return 500;
  }
  return 500;
}

std::string text_of_json(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<AdminAnswer> answer(const Result<json>& value) {
  if (!value) return std::unexpected(value.error());
  return AdminAnswer{.body = text_of_json(*value)};
}

Result<AdminAnswer> octets(ByteSpan bytes) {
  return AdminAnswer{200, "application/octet-stream", std::string(text_of(bytes))};
}

/// The body as an object; an empty one has defaults only.
Result<json> parse_body(const std::string& body, std::initializer_list<std::string_view> keys) {
  if (body.empty()) return json::object();
  auto object = parse_json_object(body);
  if (!object) return object;
  for (const auto& [key, value] : object->items()) {
    if (std::ranges::find(keys, key) == keys.end()) {
      return fail(Errc::invalid, fmt::format("\"{}\" is not known here: check its spelling", key));
    }
  }
  return object;
}

Result<std::int64_t> integer(const json& object, const char* key, std::int64_t otherwise, std::int64_t min,
                             std::int64_t max) {
  const auto found = object.find(key);
  if (found == object.end()) return otherwise;
  // An unsigned number beyond int64 would wrap around.
  const bool fits =
      found->is_number_integer() &&
      (!found->is_number_unsigned() || found->get<std::uint64_t>() <= static_cast<std::uint64_t>(max));
  if (!fits || found->get<std::int64_t>() < min || found->get<std::int64_t>() > max) {
    return fail(Errc::invalid, fmt::format("\"{}\" must be an integer from {} to {}", key, min, max));
  }
  return found->get<std::int64_t>();
}

Result<std::uint64_t> number_of(const std::string& text, const char* what) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Errc::not_found, fmt::format("there is no {} {}", what, text));
  return number;
}

template <json (*view)(const State&)>
Result<AdminAnswer> show(AdminDesk& desk, AdminRequest&) {
  return answer(desk.ask<json>([](Driver& driver) -> Result<json> { return view(driver.state()); }));
}

Result<AdminAnswer> show_status(AdminDesk& desk, AdminRequest&) {
  return answer(desk.ask<json>(
      [](Driver& driver) -> Result<json> { return status_view(driver.state(), driver.now()); }));
}

Result<AdminAnswer> show_round(AdminDesk& desk, AdminRequest& request) {
  const auto number = number_of(request.parameters.at(0), "round");
  if (!number) return std::unexpected(number.error());
  return answer(
      desk.ask<json>([round = *number](Driver& driver) { return round_view(driver.state(), round); }));
}

Result<AdminAnswer> show_version(AdminDesk& desk, AdminRequest& request) {
  const auto number = number_of(request.parameters.at(0), "version");
  if (!number) return std::unexpected(number.error());
  return answer(
      desk.ask<json>([version = *number](Driver& driver) { return version_view(driver.state(), version); }));
}

struct StoredVersion {
  ContentId snapshot;
  SnapshotForm form = SnapshotForm::fp32;
  ParameterLayout layout;
  const BlobStore* blobs = nullptr;
};

Result<AdminAnswer> version_weights(AdminDesk& desk, AdminRequest& request) {
  const auto number = number_of(request.parameters.at(0), "version");
  if (!number) return std::unexpected(number.error());
  const auto stored = desk.ask<StoredVersion>([version = *number](Driver& driver) -> Result<StoredVersion> {
    const Registry& registry = driver.state().registry;
    const VersionRecord* record = registry.find(version);
    if (record == nullptr) return fail(Errc::not_found, fmt::format("there is no version {}", version));
    if (!record->blobs_kept) {
      return fail(
          Errc::not_found,
          fmt::format("the weights of version {} are not kept any more: [limits] versions_kept", version));
    }
    return StoredVersion{record->manifest.snapshot, record->manifest.form,
                         registry.releases.at(record->manifest.release).release.layout, &driver.blobs()};
  });
  if (!stored) return std::unexpected(stored.error());
  const auto bytes = stored->blobs->read_all(stored->snapshot);
  if (!bytes) return std::unexpected(bytes.error());
  const auto weights = decode_snapshot(stored->form, stored->layout, *bytes);
  if (!weights) return std::unexpected(weights.error());
  return octets(std::as_bytes(std::span(*weights)));
}

json releases_view(const State& state) {
  json out = json::array();
  for (const auto& [id, release] : state.registry.releases) {
    out.push_back({{"id", id.hex()},
                   {"name", release.release.name},
                   {"imported", to_rfc3339(release.imported)},
                   {"active", state.registry.active == id},
                   {"teacher", teacher_json(release.release)},
                   {"has_holdout", release.has_holdout},
                   {"has_test", release.has_test}});
  }
  return out;
}

Result<AdminAnswer> show_release(AdminDesk& desk, AdminRequest& request) {
  const auto id = ReleaseId::from_hex(request.parameters.at(0));
  const auto envelope = desk.ask<Envelope>([id](Driver& driver) -> Result<Envelope> {
    const auto& releases = driver.state().registry.releases;
    const auto found = id ? releases.find(*id) : releases.end();
    if (found == releases.end())
      return fail(Errc::not_found, "there is no such release: see GET /v1/releases");
    return found->second.envelope;
  });
  if (!envelope) return std::unexpected(envelope.error());
  return octets(encode(*envelope));
}

Result<AdminAnswer> import_release(AdminDesk& desk, AdminRequest& request) {
  auto upload = parse_release_body(std::move(request.body));
  if (!upload) return std::unexpected(upload.error());
  return answer(desk.import_release(std::move(*upload)));
}

json trust_view(const State& state) {
  const TrustDocument& trust = state.trust;
  json release_keys = json::array();
  for (const PublicKey& key : trust.release_keys) release_keys.push_back(key.hex());
  return {{"document",
           {{"fleet", trust.fleet.hex()},
            {"name", trust.name},
            {"version", trust.version},
            {"created", to_rfc3339(trust.created)},
            {"expires", to_rfc3339(trust.expires)},
            {"root", trust.root.hex()},
            {"release_keys", std::move(release_keys)},
            {"coordinator", trust.coordinator.hex()}}},
          {"signed", to_json(state.trust_chain.back())}};
}

Result<AdminAnswer> change_trust(AdminDesk& desk, AdminRequest& request) {
  auto trust = parse_trust_body(request.body);
  if (!trust) return fail(Errc::invalid, "the body is no signed trust document: " + trust.error().detail);
  return answer(desk.command([trust = *trust](RequestId id) { return event::TrustChanged{id, trust}; }));
}

Result<AdminAnswer> create_token(AdminDesk& desk, AdminRequest& request) {
  const auto body = parse_body(request.body, {"expires_s", "uses"});
  if (!body) return std::unexpected(body.error());
  const auto expires_s = integer(*body, "expires_s", 3600, 1, 366 * 86400);
  if (!expires_s) return std::unexpected(expires_s.error());
  const auto uses = integer(*body, "uses", 1, 1, 1'000'000);
  if (!uses) return std::unexpected(uses.error());
  auto token = desk.ask<JoinToken>([&](Driver& driver) -> Result<JoinToken> {
    const TrustDocument& trust = driver.state().trust;
    return JoinToken{
        desk.node_address(), trust.root, trust.fleet, {}, driver.now().utc + seconds(*expires_s)};
  });
  if (!token) return std::unexpected(token.error());
  token->secret = JoinSecret::from_bytes(random_bytes(JoinSecret::size)).value();
  const event::CreateToken create{0, sha256(token->secret.span()), token->expires,
                                  static_cast<std::uint32_t>(*uses)};
  auto reply = desk.command([create](RequestId id) {
    event::CreateToken event = create;
    event.request = id;
    return event;
  });
  if (reply) (*reply)["token"] = to_text(*token);
  if (reply) (*reply)["id"] = create.secret_hash.hex();
  return answer(reply);
}

/// The one entry whose key begins with `prefix`. @param what e.g. "node's key". @param list shows them.
template <typename Key, typename Value>
Result<Key> find_one(const std::map<Key, Value>& entries, std::string prefix, const char* what,
                     const char* list) {
  std::ranges::transform(prefix, prefix.begin(),
                         [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (prefix.size() < key_digits_min) {
    return fail(Errc::invalid, fmt::format("'{}' is too short: give {} digits of the {} or more", prefix,
                                           key_digits_min, what));
  }
  std::optional<Key> found;
  for (const auto& [key, value] : entries) {
    if (!key.hex().starts_with(prefix)) continue;
    if (found)
      return fail(Errc::conflict,
                  fmt::format("more than one {} begins with {}: give more digits", what, prefix));
    found = key;
  }
  if (!found) return fail(Errc::not_found, fmt::format("no {} begins with {}: see `{}`", what, prefix, list));
  return *found;
}

Result<PublicKey> find_node(AdminDesk& desk, AdminRequest& request) {
  return desk.ask<PublicKey>([&](Driver& driver) {
    return find_one(driver.state().fleet.nodes, request.parameters.at(0), "node's key", "rivulet nodes");
  });
}

Result<AdminAnswer> list_tokens(AdminDesk& desk, AdminRequest&) {
  return answer(desk.ask<json>(
      [](Driver& driver) -> Result<json> { return tokens_view(driver.state(), driver.now()); }));
}

Result<AdminAnswer> revoke_token(AdminDesk& desk, AdminRequest& request) {
  const auto hash = desk.ask<Digest>([&](Driver& driver) {
    return find_one(driver.state().fleet.tokens, request.parameters.at(0), "token's id",
                    "rivulet token list");
  });
  if (!hash) return std::unexpected(hash.error());
  return answer(desk.command([hash = *hash](RequestId id) { return event::RevokeToken{id, hash}; }));
}

template <typename NodeEvent>
Result<AdminAnswer> change_node(AdminDesk& desk, AdminRequest& request) {
  const auto key = find_node(desk, request);
  if (!key) return std::unexpected(key.error());
  return answer(desk.command([key = *key](RequestId id) { return NodeEvent{id, key}; }));
}

Result<AdminAnswer> tag_node(AdminDesk& desk, AdminRequest& request) {
  const auto body = parse_body(request.body, {"tags"});
  if (!body) return std::unexpected(body.error());
  const auto tags = body->find("tags");
  const auto is_text = [](const json& tag) { return tag.is_string(); };
  if (tags == body->end() || !tags->is_array() || !std::all_of(tags->begin(), tags->end(), is_text)) {
    return fail(Errc::invalid, "\"tags\" must be a list of texts, which replace the former ones");
  }
  const auto key = find_node(desk, request);
  if (!key) return std::unexpected(key.error());
  const event::TagNode tag{0, *key, tags->get<std::vector<std::string>>()};
  return answer(desk.command([tag](RequestId id) {
    event::TagNode event = tag;
    event.request = id;
    return event;
  }));
}

/// Counts a call that waits, as long as it lives.
class Waiting {
 public:
  explicit Waiting(AdminDesk& desk)
      : count_(desk.waiting()), allowed_(count_.fetch_add(1) < desk.waiting_max()) {}
  ~Waiting() { count_.fetch_sub(1); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  [[nodiscard]] bool allowed() const { return allowed_; }

 private:
  std::atomic<std::size_t>& count_;
  bool allowed_;
};

Result<AdminAnswer> start_rounds(AdminDesk& desk, AdminRequest& request) {
  const auto body = parse_body(request.body, {"count", "wait", "timeout_s"});
  if (!body) return std::unexpected(body.error());
  const auto count = integer(*body, "count", 1, 1, 1'000'000);
  if (!count) return std::unexpected(count.error());
  const auto timeout_s = integer(*body, "timeout_s", 86400, 1, wait_s_max);
  if (!timeout_s) return std::unexpected(timeout_s.error());
  const auto wait = body->find("wait");
  if (wait != body->end() && !wait->is_boolean())
    return fail(Errc::invalid, "\"wait\" must be true or false");
  const event::StartRounds start{0, static_cast<std::uint32_t>(*count),
                                 wait != body->end() && wait->get<bool>()};
  const auto make = [start](RequestId id) {
    event::StartRounds event = start;
    event.request = id;
    return event;
  };
  if (!start.wait) return answer(desk.command(make));
  const Waiting waiting(desk);
  if (!waiting.allowed())
    return fail(Errc::busy, "too many calls wait for rounds: ask GET /v1/rounds instead");
  return answer(desk.command(make, seconds(*timeout_s)));
}

}  // namespace

AdminAnswer error_answer(const Error& error) {
  return {status_of(error.code), "application/json",
          text_of_json({{"error", name(error.code)}, {"detail", error.detail}})};
}

std::vector<AdminRoute> admin_routes() {
  return {{"GET", "/v1/status", false, show_status},
          {"GET", "/v1/nodes", false, show<nodes_view>},
          {"POST", "/v1/nodes/([0-9A-Fa-f]+)/tag", false, tag_node},
          {"POST", "/v1/nodes/([0-9A-Fa-f]+)/quarantine", false, change_node<event::QuarantineNode>},
          {"POST", "/v1/nodes/([0-9A-Fa-f]+)/release", false, change_node<event::ReleaseNode>},
          {"POST", "/v1/nodes/([0-9A-Fa-f]+)/revoke", false, change_node<event::RevokeNode>},
          {"GET", "/v1/tokens", false, list_tokens},
          {"POST", "/v1/tokens", false, create_token},
          {"POST", "/v1/tokens/([0-9A-Fa-f]+)/revoke", false, revoke_token},
          {"GET", "/v1/rounds", false, show<rounds_view>},
          {"GET", "/v1/rounds/([0-9]+)", false, show_round},
          {"POST", "/v1/rounds", false, start_rounds},
          {"GET", "/v1/versions", false, show<versions_view>},
          {"GET", "/v1/versions/([0-9]+)", false, show_version},
          {"GET", "/v1/versions/([0-9]+)/weights", false, version_weights},
          {"GET", "/v1/releases", false, show<releases_view>},
          {"GET", "/v1/releases/([0-9A-Fa-f]+)", false, show_release},
          {"POST", "/v1/releases", true, import_release},
          {"GET", "/v1/trust", false, show<trust_view>},
          {"POST", "/v1/trust", false, change_trust}};
}

AdminAnswer health(AdminDesk& desk) {
  const auto alive = desk.ask<bool>([](Driver&) -> Result<bool> { return true; });
  return alive ? AdminAnswer{.body = R"({"status":"ok"})"} : error_answer(alive.error());
}

AdminAnswer readiness(AdminDesk& desk) {
  const auto ready = desk.ask<bool>([](Driver& driver) -> Result<bool> {
    const State& state = driver.state();
    if (state.shutting_down) return fail(Errc::cancelled, "the coordinator is stopping");
    if (state.storage_full || state.storage_failed)
      return fail(Errc::storage_full, "the store takes no writes");
    return true;
  });
  return ready ? AdminAnswer{.body = R"({"status":"ready"})"} : error_answer(ready.error());
}

AdminAnswer metrics(AdminDesk& desk) {
  const auto text =
      desk.ask<std::string>([](Driver& driver) -> Result<std::string> { return driver.metrics_text(); });
  return text ? AdminAnswer{200, "text/plain; version=0.0.4; charset=utf-8", *text}
              : error_answer(text.error());
}

Result<std::string> audit_lines(AdminDesk& desk, std::uint64_t& next) {
  const auto store = desk.ask<Store*>([](Driver& driver) -> Result<Store*> { return &driver.store(); });
  if (!store) return std::unexpected(store.error());
  std::string lines;
  std::size_t count = 0;
  const auto visit = [&](ByteSpan key, ByteSpan value) {
    lines += text_of(value);
    lines += '\n';
    next = number_of_key(key).value_or(next) + 1;
    return ++count < audit_lines_max;
  };
  const Status scanned = (*store)->scan("audit", {}, visit, number_key(next));
  if (!scanned) return std::unexpected(scanned.error());
  return lines;
}

}  // namespace rivulet::coordinator
