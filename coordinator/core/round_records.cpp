#include "coordinator/core/json_fields.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {

using namespace json_fields;

namespace {

json put(const message::TrainingPlan& plan) {
  return {{"epochs", plan.epochs},
          {"batch_size", plan.batch_size},
          {"learning_rate", plan.learning_rate},
          {"momentum", plan.momentum},
          {"weight_decay", plan.weight_decay},
          {"proximal_mu", plan.proximal_mu},
          {"norm_bound", plan.norm_bound},
          {"seed", plan.seed},
          {"codec", plan.codec},
          {"optimizer", plan.optimizer}};
}

message::TrainingPlan get_training(const json& in) {
  message::TrainingPlan plan;
  plan.epochs = get<std::uint32_t>(in, "epochs", 1);
  plan.batch_size = get<std::uint32_t>(in, "batch_size", 10);
  plan.learning_rate = get<double>(in, "learning_rate", 0.1);
  plan.momentum = get<double>(in, "momentum");
  plan.weight_decay = get<double>(in, "weight_decay");
  plan.proximal_mu = get<double>(in, "proximal_mu");
  plan.norm_bound = get<double>(in, "norm_bound");
  plan.seed = get<std::uint64_t>(in, "seed");
  plan.codec = get<std::uint16_t>(in, "codec");
  plan.optimizer = get<std::uint16_t>(in, "optimizer");
  return plan;
}

json put(const RoundConfig& config) {
  return {{"cohort", config.cohort},
          {"over_selection", config.over_selection},
          {"goal", config.goal},
          {"cohort_min", config.cohort_min},
          {"updates_min", config.updates_min},
          {"selection_patience_s", config.selection_patience.count()},
          {"selection_deadline_s", config.selection_deadline.count()},
          {"deadline_s", config.deadline.count()},
          {"failure_pause_s", config.failure_pause.count()},
          {"samples_min", config.samples_min},
          {"sample_count_max", config.sample_count_max},
          {"refusals_max", config.refusals_max}};
}

RoundConfig get_config(const json& in) {
  RoundConfig config;
  config.cohort = get(in, "cohort", config.cohort);
  config.over_selection = get(in, "over_selection", config.over_selection);
  config.goal = get(in, "goal", config.goal);
  config.cohort_min = get(in, "cohort_min", config.cohort_min);
  config.updates_min = get(in, "updates_min", config.updates_min);
  config.selection_patience = get_duration(in, "selection_patience_s", config.selection_patience);
  config.selection_deadline = get_duration(in, "selection_deadline_s", config.selection_deadline);
  config.deadline = get_duration(in, "deadline_s", config.deadline);
  config.failure_pause = get_duration(in, "failure_pause_s", config.failure_pause);
  config.samples_min = get(in, "samples_min", config.samples_min);
  config.sample_count_max = get(in, "sample_count_max", config.sample_count_max);
  config.refusals_max = get(in, "refusals_max", config.refusals_max);
  return config;
}

json put(const ValidationConfig& config) {
  return {{"mode", std::string(name(config.mode))},
          {"evaluators", config.evaluators},
          {"evaluators_min", config.evaluators_min},
          {"holdout_min", config.holdout_min},
          {"holdout_max", config.holdout_max},
          {"tolerance", config.tolerance},
          {"variant_tolerance", config.variant_tolerance},
          {"deadline_s", config.deadline.count()}};
}

ValidationConfig get_validation(const json& in) {
  ValidationConfig config;
  const auto mode = parse_validation_mode(get<std::string>(in, "mode", std::string(name(config.mode))));
  if (!mode) throw std::runtime_error(mode.error().detail);
  config.mode = *mode;
  config.evaluators = get(in, "evaluators", config.evaluators);
  config.evaluators_min = get(in, "evaluators_min", config.evaluators_min);
  config.holdout_min = get(in, "holdout_min", config.holdout_min);
  config.holdout_max = get(in, "holdout_max", config.holdout_max);
  config.tolerance = get(in, "tolerance", config.tolerance);
  config.variant_tolerance = get(in, "variant_tolerance", config.variant_tolerance);
  config.deadline = get_duration(in, "deadline_s", config.deadline);
  return config;
}

json put(const RoundPlan& plan) {
  return {{"round", plan.round},
          {"release", hex(plan.release)},
          {"base", plan.base},
          {"base_hash", hex(plan.base_hash)},
          {"parameter_count", plan.parameter_count},
          {"update_bytes_max", plan.update_bytes_max},
          {"invited_max", plan.invited_max},
          {"goal_count", plan.goal_count},
          {"training", put(plan.training)},
          {"config", put(plan.config)},
          {"aggregation",
           {{"rule", plan.aggregation.rule},
            {"optimizer", plan.aggregation.optimizer},
            {"server_learning_rate", plan.aggregation.server_learning_rate}}},
          {"validation", put(plan.validation)},
          {"has_holdout", plan.has_holdout},
          {"has_test", plan.has_test}};
}

RoundPlan get_plan(const json& in) {
  RoundPlan plan;
  plan.round = get<RoundNumber>(in, "round");
  plan.release = get_id<ReleaseId>(in, "release");
  plan.base = get<VersionNumber>(in, "base");
  plan.base_hash = get_id<Digest>(in, "base_hash");
  plan.parameter_count = get<std::uint64_t>(in, "parameter_count");
  plan.update_bytes_max = get<std::uint64_t>(in, "update_bytes_max");
  plan.invited_max = get<std::uint64_t>(in, "invited_max");
  plan.goal_count = get<std::uint64_t>(in, "goal_count");
  plan.training = get_training(in.at("training"));
  plan.config = get_config(in.at("config"));
  const json& aggregation = in.at("aggregation");
  plan.aggregation.rule = get(aggregation, "rule", plan.aggregation.rule);
  plan.aggregation.optimizer = get(aggregation, "optimizer", plan.aggregation.optimizer);
  plan.aggregation.server_learning_rate =
      get(aggregation, "server_learning_rate", plan.aggregation.server_learning_rate);
  plan.validation = get_validation(in.at("validation"));
  plan.has_holdout = get<bool>(in, "has_holdout");
  plan.has_test = get<bool>(in, "has_test");
  return plan;
}

json put(const RoundSummary& summary) {
  json out = {{"round", summary.round},
              {"state", summary.state},
              {"reason", summary.reason},
              {"started", to_rfc3339(summary.started)},
              {"ended", to_rfc3339(summary.ended)},
              {"invited", summary.invited},
              {"accepted", summary.accepted},
              {"refused", summary.refused},
              {"declined", summary.declined},
              {"upload_bytes", summary.upload_bytes},
              {"download_bytes", summary.download_bytes},
              {"version", summary.version}};
  if (summary.metrics) out["metrics"] = to_json(*summary.metrics);
  return out;
}

RoundSummary get_summary(const json& in) {
  RoundSummary summary;
  summary.round = get<RoundNumber>(in, "round");
  summary.state = get<std::string>(in, "state");
  summary.reason = get<std::string>(in, "reason");
  summary.started = get_time(in, "started");
  summary.ended = get_time(in, "ended");
  summary.invited = get<std::uint64_t>(in, "invited");
  summary.accepted = get<std::uint64_t>(in, "accepted");
  summary.refused = get<std::uint64_t>(in, "refused");
  summary.declined = get<std::uint64_t>(in, "declined", 0);
  summary.upload_bytes = get<std::uint64_t>(in, "upload_bytes");
  summary.download_bytes = get<std::uint64_t>(in, "download_bytes");
  summary.version = get<VersionNumber>(in, "version");
  summary.metrics = get_metrics(in, "metrics");
  return summary;
}

json put(const CandidateBuilt& candidate) {
  return {{"manifest", put_envelope(candidate.manifest)},
          {"form", std::string(name(candidate.form))},
          {"snapshot", hex(candidate.snapshot)},
          {"snapshot_bytes", candidate.snapshot_bytes},
          {"weights_hash", hex(candidate.weights_hash)},
          {"master", hex(candidate.master)},
          {"optimizer_state", hex(candidate.optimizer_state)},
          {"distance", number(candidate.distance)}};
}

CandidateBuilt get_candidate(const json& in) {
  CandidateBuilt candidate;
  candidate.manifest = get_envelope(in, "manifest");
  candidate.form = get_form(in, "form");
  candidate.snapshot = get_id<ContentId>(in, "snapshot");
  candidate.snapshot_bytes = get<std::uint64_t>(in, "snapshot_bytes");
  candidate.weights_hash = get_id<Digest>(in, "weights_hash");
  candidate.master = get_id<ContentId>(in, "master");
  candidate.optimizer_state = get_id<ContentId>(in, "optimizer_state");
  candidate.distance = get_number(in, "distance");
  return candidate;
}

}  // namespace

json to_json(const RoundRecord& record) {
  json out = {{"plan", put(record.plan)},
              {"summary", put(record.summary)},
              {"deadline", to_rfc3339(record.deadline)},
              {"patience", to_rfc3339(record.patience)},
              {"attempt", record.attempt}};
  if (record.candidate) out["candidate"] = put(*record.candidate);
  return out;
}

template <>
Result<RoundRecord> parse_record(ByteSpan text) {
  return parse<RoundRecord>(text, [](const json& in) {
    RoundRecord record;
    record.plan = get_plan(in.at("plan"));
    record.summary = get_summary(in.at("summary"));
    record.deadline = get_time(in, "deadline");
    record.patience = get_time(in, "patience");
    record.attempt = get<std::uint32_t>(in, "attempt");
    if (const auto candidate = in.find("candidate"); candidate != in.end()) {
      record.candidate = get_candidate(*candidate);
    }
    return record;
  });
}

}  // namespace rivulet::coordinator
