#include "coordinator/core/json_fields.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {

using namespace json_fields;

json to_json(const Metrics& metrics) {
  return {
      {"accuracy", number(metrics.accuracy)}, {"loss", number(metrics.loss)}, {"samples", metrics.samples}};
}

json to_json(const ReleaseRecord& record) {
  return {{"envelope", put_envelope(record.envelope)},
          {"name", record.release.name},
          {"content", hex(record.content)},
          {"imported", to_rfc3339(record.imported)},
          {"has_holdout", record.has_holdout},
          {"has_test", record.has_test},
          {"holdout_hash", hex(record.holdout_hash)},
          {"test_hash", hex(record.test_hash)}};
}

template <>
Result<ReleaseRecord> parse_record(ByteSpan text) {
  return parse<ReleaseRecord>(text, [](const json& in) -> Result<ReleaseRecord> {
    ReleaseRecord record;
    record.envelope = get_envelope(in, "envelope");
    record.id = release_id(record.envelope.payload);
    auto release = decode_release(record.envelope.payload);
    if (!release) return std::unexpected(release.error());
    record.release = std::move(*release);
    record.content = get_id<ContentId>(in, "content");
    record.imported = get_time(in, "imported");
    record.has_holdout = get<bool>(in, "has_holdout");
    record.has_test = get<bool>(in, "has_test");
    record.holdout_hash = get_id<Digest>(in, "holdout_hash");
    record.test_hash = get_id<Digest>(in, "test_hash");
    return record;
  });
}

json to_json(const VersionRecord& record) {
  json updates = json::array();
  for (const Contribution& update : record.updates) {
    updates.push_back({{"task", hex(update.task)},
                       {"node", hex(update.node)},
                       {"content", hex(update.content)},
                       {"sample_count", update.sample_count},
                       {"weight", update.weight},
                       {"scale", update.scale}});
  }
  json out = {{"envelope", put_envelope(record.envelope)},
              {"version", record.manifest.version},
              {"round", record.manifest.round},
              {"master", hex(record.master)},
              {"optimizer_state", hex(record.optimizer_state)},
              {"updates", std::move(updates)}};
  if (record.metrics) out["metrics"] = to_json(*record.metrics);
  return out;
}

template <>
Result<VersionRecord> parse_record(ByteSpan text) {
  return parse<VersionRecord>(text, [](const json& in) -> Result<VersionRecord> {
    VersionRecord record;
    record.envelope = get_envelope(in, "envelope");
    auto manifest = decode_version(record.envelope.payload);
    if (!manifest) return std::unexpected(manifest.error());
    record.manifest = std::move(*manifest);
    record.master = get_id<ContentId>(in, "master");
    record.optimizer_state = get_id<ContentId>(in, "optimizer_state");
    record.metrics = get_metrics(in, "metrics");
    for (const json& update : in.at("updates")) {
      record.updates.push_back({get_id<TaskId>(update, "task"), get_id<PublicKey>(update, "node"),
                                get_id<ContentId>(update, "content"),
                                get<std::uint64_t>(update, "sample_count"), get_number(update, "weight"),
                                get_number(update, "scale")});
    }
    return record;
  });
}

}  // namespace rivulet::coordinator
