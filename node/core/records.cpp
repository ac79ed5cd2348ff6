#include "node/core/records.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/documents.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

constexpr std::string_view release_prefix = "release/";
constexpr std::string_view content_prefix = "content/";

Bytes text_key(std::string_view text) { return copy_of(bytes_of(text)); }

Put put(std::string_view family, Bytes key, const Json& value) {
  // Texts come off the wire checked, but what a driver says of a failure may hold any byte.
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return {std::string(family), std::move(key), copy_of(bytes_of(text))};
}
Erase erasure(std::string_view family, Bytes key) { return {std::string(family), std::move(key)}; }

std::int64_t milliseconds(UtcTime time) { return time.time_since_epoch().count(); }

Json json_of(const Held& held) {
  return {{"manifest", to_base64url(encode(held.manifest))}, {"variant", held.variant}};
}
std::uint32_t attempts_at(const Json& json) { return json.value("attempts", std::uint32_t{0}); }

// Readers of what was written above. They throw on anything else; recover() catches it.

Bytes bytes_at(const Json& json, const char* key) {
  auto bytes = from_base64url(json.at(key).get<std::string>());
  if (!bytes) throw std::runtime_error(fmt::format("'{}' is not Base64", key));
  return std::move(*bytes);
}
template <typename Id>
Id id_from(const std::string& hex) {
  const auto id = Id::from_hex(hex);
  if (!id) throw std::runtime_error(fmt::format("'{}' is no id", hex));
  return *id;
}
template <typename Id>
Id id_at(const Json& json, const char* key) {
  return id_from<Id>(json.at(key).get<std::string>());
}
UtcTime time_at(const Json& json, const char* key) {
  return UtcTime(std::chrono::milliseconds(json.at(key).get<std::int64_t>()));
}
template <typename T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().detail);
  return std::move(*result);
}
VersionManifest manifest_at(const Json& json) { return value_of(decode_version(bytes_at(json, "manifest"))); }

TaskId task_key(ByteSpan key) {
  const auto id = TaskId::from_bytes(key);
  if (!id) throw std::runtime_error("the key is no task id");
  return *id;
}

void read_meta(State& state, const Json& json) {
  state.serving.highest_manifest = json.at("highest_manifest").get<std::uint64_t>();
  state.serving.epoch_floor = json.at("epoch_floor").get<std::uint64_t>();
  state.trust.signed_time = time_at(json, "signed_time_ms");
  if (!json.contains("outcome")) return;
  const Json& outcome = json.at("outcome");
  state.serving.outcome =
      message::Activation{.version = outcome.at("version").get<std::uint64_t>(),
                          .manifest_version = outcome.at("manifest_version").get<std::uint64_t>(),
                          .outcome = static_cast<Reason>(outcome.at("reason").get<std::uint16_t>()),
                          .detail = outcome.at("detail").get<std::string>()};
}

Held held_from(const Json& json) {
  Held held{manifest_at(json), json.at("variant").get<std::string>()};
  const bool offered = std::any_of(held.manifest.variants.begin(), held.manifest.variants.end(),
                                   [&](const VariantInfo& variant) { return variant.name == held.variant; });
  if (!offered) throw std::runtime_error("the manifest has no variant '" + held.variant + "'");
  return held;
}

void read_manifest(State& state, std::string_view key, const Json& json) {
  if (key == "active") {
    state.serving.active = held_from(json);
    state.serving.attempts = attempts_at(json);
  } else if (key == "previous") {
    state.serving.previous = held_from(json);
  } else if (key == "pending") {
    state.serving.pending = Pending{.manifest = manifest_at(json), .attempts = attempts_at(json)};
  } else if (key.starts_with(content_prefix)) {
    state.transfers.present.insert(id_from<ContentId>(std::string(key.substr(content_prefix.size()))));
  } else if (key.starts_with(release_prefix)) {
    state.releases[id_from<ReleaseId>(std::string(key.substr(release_prefix.size())))] =
        KnownRelease{.content = id_at<ContentId>(json, "content"),
                     .signer = id_at<PublicKey>(json, "signer"),
                     .expires = time_at(json, "expires_ms"),
                     .epoch = json.at("epoch").get<std::uint64_t>(),
                     .recipes = json.at("recipes").get<std::vector<std::string>>(),
                     .initial_weights = id_at<ContentId>(json, "initial_weights"),
                     .fp32_bytes = json.at("fp32_bytes").get<std::uint64_t>(),
                     .int8_bytes = json.at("int8_bytes").get<std::uint64_t>(),
                     .sparse_extra_bytes = json.value("sparse_extra_bytes", std::uint64_t{0})};
  } else {
    throw std::runtime_error("unknown key");
  }
}

void read_task(State& state, ByteSpan key, const Json& json) {
  Task task;
  task.sequence = json.at("sequence").get<std::uint64_t>();
  task.attempts = attempts_at(json);
  task.deadline_utc = time_at(json, "deadline_ms");
  const Message message = value_of(decode_message(bytes_at(json, "message")));
  const auto* received = std::get_if<message::Task>(&message);
  if (received == nullptr || received->id != task_key(key))
    throw std::runtime_error("the message is not this task");
  task.task = *received;
  task.base = value_of(decode_version(task.task.base.payload));
  if (task.task.type == message::TaskType::evaluate) {
    task.candidate = value_of(decode_candidate(task.task.candidate.payload));
  }
  state.tasks.emplace(task.task.id, std::move(task));
}

OutboxEntry outbox_from(const Json& json) {
  const Bytes signature = bytes_at(json, "signature");
  const auto read = Signature::from_bytes(signature);
  if (!read) throw std::runtime_error("the signature has a wrong length");
  const bool update = json.at("kind").get<std::string>() == "update";
  Bytes payload = bytes_at(json, "payload");
  const UtcTime made = update ? value_of(decode_update_header(payload)).time : UtcTime();
  return {.sequence = json.at("sequence").get<std::uint64_t>(),
          .kind = update ? OutboxEntry::Kind::update : OutboxEntry::Kind::report,
          .envelope = {std::move(payload), *read},
          .content = id_at<ContentId>(json, "content"),
          .content_bytes = json.at("content_bytes").get<std::uint64_t>(),
          .accepted = json.at("accepted").get<bool>(),
          .made = made};
}

void read_record(State& state, const Put& record) {
  const std::string_view text = text_of(record.value);
  const Json json = Json::parse(text.begin(), text.end());
  if (record.family == "meta") {
    read_meta(state, json);
  } else if (record.family == "trust") {
    state.trust.document = value_of(decode_trust(bytes_at(json, "document")));
    state.trust.root = state.trust.document->root;
  } else if (record.family == "manifests") {
    read_manifest(state, text_of(record.key), json);
  } else if (record.family == "tasks") {
    read_task(state, record.key, json);
  } else if (record.family == "outbox") {
    state.outbox.emplace(task_key(record.key), outbox_from(json));
  } else if (record.family == "verdicts") {
    const auto sequence = number_of_key(record.key);
    if (!sequence) throw std::runtime_error("the key is no number");
    state.ended[*sequence] = Ended{.task = id_at<TaskId>(json, "task"),
                                   .outcome = json.at("outcome").get<std::string>(),
                                   .reason = static_cast<Reason>(json.at("reason").get<std::uint16_t>()),
                                   .version = json.at("version").get<std::uint64_t>(),
                                   .time = time_at(json, "time_ms"),
                                   .detail = json.value("detail", std::string())};
  } else {
    throw std::runtime_error("unknown family");
  }
}

}  // namespace

Result<State> recover(const Config& config, std::uint64_t seed, std::span<const Put> records) {
  State state;
  state.config = config;
  state.rng.seed(seed);
  state.trust.root = config.root;
  for (const Put& record : records) {
    try {
      read_record(state, record);
    } catch (const std::exception& error) {
      return fail(Errc::corrupt, fmt::format("the node's store: record {} of '{}': {}", to_hex(record.key),
                                             record.family, error.what()));
    }
  }
  if (!state.trust.document && (!state.tasks.empty() || state.serving.active || state.serving.pending)) {
    return fail(Errc::corrupt, "the node's store holds versions but no trust document: join the fleet again");
  }
  for (const auto& [id, task] : state.tasks)
    state.next_sequence = std::max(state.next_sequence, task.sequence + 1);
  for (const auto& [id, entry] : state.outbox)
    state.next_sequence = std::max(state.next_sequence, entry.sequence + 1);
  if (!state.ended.empty())
    state.next_sequence = std::max(state.next_sequence, state.ended.rbegin()->first + 1);
  return state;
}

Put record_of(const TrustDocument& document) {
  return put("trust", text_key("document"),
             {{"version", document.version}, {"document", to_base64url(encode(document))}});
}

Put meta_record(const State& state) {
  Json json = {{"highest_manifest", state.serving.highest_manifest},
               {"epoch_floor", state.serving.epoch_floor},
               {"signed_time_ms", milliseconds(state.trust.signed_time)}};
  if (const auto& outcome = state.serving.outcome) {
    json["outcome"] = {{"version", outcome->version},
                       {"manifest_version", outcome->manifest_version},
                       {"reason", static_cast<std::uint16_t>(outcome->outcome)},
                       {"detail", outcome->detail}};
  }
  return put("meta", text_key("agent"), json);
}

Put active_record(const Serving& serving) {
  Json json = json_of(*serving.active);
  json["attempts"] = serving.attempts;
  return put("manifests", text_key("active"), json);
}
Put previous_record(const Held& held) { return put("manifests", text_key("previous"), json_of(held)); }
Put pending_record(const Pending& pending) {
  return put("manifests", text_key("pending"),
             {{"manifest", to_base64url(encode(pending.manifest))}, {"attempts", pending.attempts}});
}
Put release_record(const ReleaseId& id, const KnownRelease& release) {
  return put("manifests", text_key(std::string(release_prefix) + id.hex()),
             {{"content", release.content.hex()},
              {"signer", release.signer.hex()},
              {"expires_ms", milliseconds(release.expires)},
              {"epoch", release.epoch},
              {"recipes", release.recipes},
              {"initial_weights", release.initial_weights.hex()},
              {"fp32_bytes", release.fp32_bytes},
              {"int8_bytes", release.int8_bytes},
              {"sparse_extra_bytes", release.sparse_extra_bytes}});
}
Put content_record(const ContentId& content) {
  return put("manifests", text_key(std::string(content_prefix) + content.hex()), Json::object());
}
Put task_record(const Task& task) {
  return put("tasks", copy_of(task.task.id.span()),
             {{"sequence", task.sequence},
              {"attempts", task.attempts},
              {"deadline_ms", milliseconds(task.deadline_utc)},
              {"message", to_base64url(encode(Message(task.task)))}});
}
Put outbox_record(const TaskId& task, const OutboxEntry& entry) {
  return put("outbox", copy_of(task.span()),
             {{"sequence", entry.sequence},
              {"kind", entry.kind == OutboxEntry::Kind::update ? "update" : "report"},
              {"payload", to_base64url(entry.envelope.payload)},
              {"signature", to_base64url(entry.envelope.signature.span())},
              {"content", entry.content.hex()},
              {"content_bytes", entry.content_bytes},
              {"accepted", entry.accepted}});
}
Put ended_record(std::uint64_t sequence, const Ended& ended) {
  return put("verdicts", number_key(sequence),
             {{"task", ended.task.hex()},
              {"outcome", ended.outcome},
              {"reason", static_cast<std::uint16_t>(ended.reason)},
              {"version", ended.version},
              {"time_ms", milliseconds(ended.time)},
              {"detail", ended.detail}});
}

Erase manifest_erasure(std::string_view key) { return erasure("manifests", text_key(key)); }
Erase release_erasure(const ReleaseId& id) {
  return manifest_erasure(std::string(release_prefix) + id.hex());
}
Erase content_erasure(const ContentId& content) {
  return manifest_erasure(std::string(content_prefix) + content.hex());
}
Erase task_erasure(const TaskId& task) { return erasure("tasks", copy_of(task.span())); }
Erase outbox_erasure(const TaskId& task) { return erasure("outbox", copy_of(task.span())); }
Erase ended_erasure(std::uint64_t sequence) { return erasure("verdicts", number_key(sequence)); }

}  // namespace rivulet::node
