#include "coordinator/core/records.h"

#include "coordinator/core/audit.h"
#include "coordinator/core/json_fields.h"

namespace rivulet::coordinator {

using namespace json_fields;

Bytes record_bytes(const json& value) { return copy_of(bytes_of(audit_text(value))); }

json to_json(const NodeRecord& record) {
  return {{"key", hex(record.key)},
          {"state", std::string(name(record.state))},
          {"tags", record.tags},
          {"enrolled", to_rfc3339(record.enrolled)},
          {"last_seen", to_rfc3339(record.last_seen)},
          {"token", hex(record.token)},
          {"software", record.software}};
}

template <>
Result<NodeRecord> parse_record(ByteSpan text) {
  return parse<NodeRecord>(text, [](const json& in) {
    NodeRecord record;
    record.key = get_id<PublicKey>(in, "key");
    const auto state = get<std::string>(in, "state", "active");
    if (state == name(NodeState::revoked)) {
      record.state = NodeState::revoked;
    } else if (state == name(NodeState::quarantined)) {
      record.state = NodeState::quarantined;
    } else if (state != name(NodeState::active)) {
      throw std::runtime_error("state is no state of a node: " + state);
    }
    record.tags = get<std::vector<std::string>>(in, "tags");
    record.enrolled = get_time(in, "enrolled");
    record.last_seen = get_time(in, "last_seen");
    record.token = get_id<Digest>(in, "token");
    record.software = get<std::string>(in, "software");
    return record;
  });
}

json to_json(const TokenRecord& record) {
  return {{"secret_hash", hex(record.secret_hash)},
          {"created", to_rfc3339(record.created)},
          {"expires", to_rfc3339(record.expires)},
          {"uses", record.uses},
          {"used", record.used}};
}

template <>
Result<TokenRecord> parse_record(ByteSpan text) {
  return parse<TokenRecord>(text, [](const json& in) {
    TokenRecord record;
    record.secret_hash = get_id<Digest>(in, "secret_hash");
    record.created = get_time(in, "created");
    record.expires = get_time(in, "expires");
    record.uses = get<std::uint32_t>(in, "uses", 1);
    record.used = get<std::uint32_t>(in, "used");
    return record;
  });
}

json to_json(const TaskRecord& record) {
  json out = {{"id", hex(record.id)},
              {"node", hex(record.node)},
              {"round", record.round},
              {"type", std::string(name(record.type))}};
  if (record.report) {
    const PairedCounts& report = *record.report;
    out["report"] = {{"both_right", report.both_right},
                     {"parent_only", report.parent_only},
                     {"candidate_only", report.candidate_only},
                     {"both_wrong", report.both_wrong},
                     {"parent_loss_sum", number(report.parent_loss_sum)},
                     {"candidate_loss_sum", number(report.candidate_loss_sum)}};
  }
  if (record.declined) {
    out["declined"] = {{"reason", static_cast<std::uint16_t>(record.declined->reason)},
                       {"detail", record.declined->detail}};
  }
  if (record.refused) {
    out["refused"] = {{"reason", static_cast<std::uint16_t>(record.refused->reason)},
                      {"detail", record.refused->detail}};
  }
  return out;
}

template <>
Result<TaskRecord> parse_record(ByteSpan text) {
  return parse<TaskRecord>(text, [](const json& in) {
    TaskRecord record;
    record.id = get_id<TaskId>(in, "id");
    record.node = get_id<PublicKey>(in, "node");
    record.round = get<RoundNumber>(in, "round");
    record.type =
        get<std::string>(in, "type") == "evaluate" ? message::TaskType::evaluate : message::TaskType::train;
    if (const auto report = in.find("report"); report != in.end()) {
      PairedCounts counts;
      counts.both_right = get<std::uint64_t>(*report, "both_right");
      counts.parent_only = get<std::uint64_t>(*report, "parent_only");
      counts.candidate_only = get<std::uint64_t>(*report, "candidate_only");
      counts.both_wrong = get<std::uint64_t>(*report, "both_wrong");
      counts.parent_loss_sum = get_number(*report, "parent_loss_sum");
      counts.candidate_loss_sum = get_number(*report, "candidate_loss_sum");
      record.report = counts;
    }
    if (const auto declined = in.find("declined"); declined != in.end()) {
      record.declined = Refusal{static_cast<Reason>(get<std::uint16_t>(*declined, "reason")),
                                get<std::string>(*declined, "detail")};
    }
    if (const auto refused = in.find("refused"); refused != in.end()) {
      record.refused = Refusal{static_cast<Reason>(get<std::uint16_t>(*refused, "reason")),
                               get<std::string>(*refused, "detail")};
    }
    return record;
  });
}

json to_json(const UpdateRecord& record) {
  return {{"task", hex(record.task)},
          {"node", hex(record.node)},
          {"round", record.round},
          {"content", hex(record.content)},
          {"content_bytes", record.content_bytes},
          {"codec", record.codec},
          {"sample_count", record.sample_count},
          {"norm", number(record.norm)},
          {"loss_first", number(record.loss_first)},
          {"loss_last", number(record.loss_last)},
          {"order", record.order},
          {"accepted", to_rfc3339(record.accepted)}};
}

template <>
Result<UpdateRecord> parse_record(ByteSpan text) {
  return parse<UpdateRecord>(text, [](const json& in) {
    UpdateRecord record;
    record.task = get_id<TaskId>(in, "task");
    record.node = get_id<PublicKey>(in, "node");
    record.round = get<RoundNumber>(in, "round");
    record.content = get_id<ContentId>(in, "content");
    record.content_bytes = get<std::uint64_t>(in, "content_bytes");
    record.codec = get<std::uint16_t>(in, "codec");
    record.sample_count = get<std::uint64_t>(in, "sample_count");
    record.norm = get_number(in, "norm");
    record.loss_first = get_number(in, "loss_first");
    record.loss_last = get_number(in, "loss_last");
    record.order = get<std::uint64_t>(in, "order");
    record.accepted = get_time(in, "accepted");
    return record;
  });
}

json to_json(const VerdictRecord& record) {
  return {{"task", hex(record.task)},
          {"node", hex(record.node)},
          {"round", record.round},
          {"content", hex(record.content)},
          {"outcome", record.outcome == message::VerdictOutcome::aggregated ? "aggregated" : "discarded"},
          {"reason", static_cast<std::uint16_t>(record.reason)},
          {"reason_name", std::string(name(record.reason))},
          {"version", record.version}};
}

template <>
Result<VerdictRecord> parse_record(ByteSpan text) {
  return parse<VerdictRecord>(text, [](const json& in) {
    VerdictRecord record;
    record.task = get_id<TaskId>(in, "task");
    record.node = get_id<PublicKey>(in, "node");
    record.round = get<RoundNumber>(in, "round");
    record.content = get_id<ContentId>(in, "content");
    record.outcome = get<std::string>(in, "outcome") == "aggregated" ? message::VerdictOutcome::aggregated
                                                                     : message::VerdictOutcome::discarded;
    record.reason = static_cast<Reason>(get<std::uint16_t>(in, "reason"));
    record.version = get<VersionNumber>(in, "version");
    return record;
  });
}

json to_json(const Schedule& record) {
  return {{"last_started", record.last_started},
          {"until", record.until},
          {"refusals", record.refusals},
          {"failures", record.failures},
          {"stopped", record.stopped}};
}

template <>
Result<Schedule> parse_record(ByteSpan text) {
  return parse<Schedule>(text, [](const json& in) {
    Schedule record;
    record.last_started = get<RoundNumber>(in, "last_started");
    record.until = get<RoundNumber>(in, "until");
    record.refusals = get<std::uint32_t>(in, "refusals");
    record.failures = get<std::uint32_t>(in, "failures");
    record.stopped = get<std::string>(in, "stopped");
    return record;
  });
}

json to_json(const SignedTrust& record) {
  json signatures = json::array();
  for (const auto& entry : record.signatures) {
    signatures.push_back({{"key", hex(entry.key)}, {"signature", hex(entry.signature)}});
  }
  return {{"payload", to_base64url(record.payload)}, {"signatures", std::move(signatures)}};
}

template <>
Result<SignedTrust> parse_record(ByteSpan text) {
  return parse<SignedTrust>(text, [](const json& in) {
    SignedTrust record;
    record.payload = get_bytes(in, "payload");
    for (const json& entry : in.at("signatures")) {
      record.signatures.push_back({get_id<PublicKey>(entry, "key"), get_id<Signature>(entry, "signature")});
    }
    return record;
  });
}

}  // namespace rivulet::coordinator
