#include "coordinator/server/config_file.h"

#include <spdlog/fmt/fmt.h>

#include <limits>

#include "config/toml_reader.h"

namespace rivulet::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::int64_t mib_max = std::int64_t{1} << 30;

std::uint32_t read_u32(TomlReader& in, std::string_view key, std::uint32_t otherwise) {
  return static_cast<std::uint32_t>(in.integer(key, otherwise, 0, std::numeric_limits<std::uint32_t>::max()));
}

std::uint64_t read_u64(TomlReader& in, std::string_view key, std::uint64_t otherwise) {
  return static_cast<std::uint64_t>(in.integer(key, static_cast<std::int64_t>(otherwise)));
}

std::uint64_t read_mib(TomlReader& in, std::string_view key, std::uint64_t otherwise_bytes) {
  return static_cast<std::uint64_t>(in.integer(key, static_cast<std::int64_t>(otherwise_bytes / mib), 1, mib_max)) * mib;
}

seconds read_seconds(TomlReader& in, std::string_view key, seconds otherwise) {
  return seconds(in.integer(key, otherwise.count(), 0, 366 * 86400));
}

milliseconds read_milliseconds(TomlReader& in, std::string_view key, milliseconds otherwise) {
  return milliseconds(in.integer(key, otherwise.count(), 0, 86'400'000));
}

Endpoint read_endpoint(TomlReader& in, std::string_view key, const Endpoint& otherwise) {
  const auto endpoint = parse_endpoint(in.text(key, to_string(otherwise)));
  if (endpoint) return *endpoint;
  in.reject(key, "is no address: " + endpoint.error().detail);
  return otherwise;
}

void read_server(TomlReader in, ServerSettings& server) {
  server.listen = read_endpoint(in, "listen", server.listen);
  server.admin = read_endpoint(in, "admin", server.admin);
  server.public_address = in.text("public_address", "");
  if (!server.public_address.empty()) {
    const auto endpoint = parse_endpoint(server.public_address);
    if (!endpoint) in.reject("public_address", "is no address: " + endpoint.error().detail);
    if (endpoint && endpoint->port == 0) in.reject("public_address", "needs a port: nodes cannot guess it");
  }
  server.worker_threads = static_cast<std::size_t>(in.integer("worker_threads", 0, 0, 1024));
  server.admin_threads = static_cast<std::size_t>(in.integer("admin_threads", 8, 2, 256));
  if (server.listen == server.admin && server.listen.port != 0) in.reject("admin", "is the same address as listen");
}

void read_round(TomlReader in, RoundConfig& round) {
  in.choice("mode", "sync", {"sync"});
  round.cohort = read_u32(in, "cohort", round.cohort);
  round.over_selection = in.number("over_selection", round.over_selection);
  round.goal = read_u32(in, "goal", round.goal);
  // Small cohorts keep their minimum within reach without naming it.
  round.cohort_min = read_u32(in, "cohort_min", std::min(round.cohort_min, std::max(round.cohort, 1U)));
  const std::uint32_t goal = round.goal == 0 ? round.cohort : round.goal;
  round.updates_min = read_u32(in, "updates_min", std::min({round.updates_min, round.cohort_min, std::max(goal, 1U)}));
  round.selection_patience = read_seconds(in, "selection_patience_s", round.selection_patience);
  round.selection_deadline = read_seconds(in, "selection_deadline_s", round.selection_deadline);
  round.deadline = read_seconds(in, "deadline_s", round.deadline);
  round.failure_pause = read_seconds(in, "failure_pause_s", round.failure_pause);
  round.samples_min = read_u64(in, "samples_min", round.samples_min);
  round.sample_count_max = read_u64(in, "sample_count_max", round.sample_count_max);
  round.refusals_max = read_u32(in, "refusals_max", round.refusals_max);
}

void read_training(TomlReader in, TrainingConfig& training) {
  training.epochs = read_u32(in, "epochs", training.epochs);
  training.batch_size = read_u32(in, "batch_size", training.batch_size);
  training.learning_rate = in.number("learning_rate", training.learning_rate);
  training.momentum = in.number("momentum", training.momentum);
  training.weight_decay = in.number("weight_decay", training.weight_decay);
  training.proximal_mu = in.number("proximal_mu", training.proximal_mu);
  training.optimizer = in.choice("optimizer", training.optimizer, {"sgd", "adam"});
}

void read_delta(TomlReader in, DeltaConfig& delta) {
  delta.codec = in.choice("codec", "int8", {"fp32", "int8"}) == "fp32" ? Codec::fp32 : Codec::int8;
  delta.norm_bound = in.number("norm_bound", delta.norm_bound);
}

void read_aggregation(TomlReader in, AggregationConfig& aggregation) {
  aggregation.rule = in.choice("rule", aggregation.rule, {"mean"});
  aggregation.optimizer = in.choice("optimizer", aggregation.optimizer, {"fedavg"});
  aggregation.server_learning_rate = in.number("server_learning_rate", aggregation.server_learning_rate);
}

void read_validation(TomlReader in, ValidationConfig& validation) {
  const std::string mode = in.choice("mode", name(validation.mode), {"federated", "central", "both", "none"});
  if (const auto parsed = parse_validation_mode(mode)) validation.mode = *parsed;
  validation.evaluators = read_u32(in, "evaluators", validation.evaluators);
  validation.evaluators_min =
      read_u32(in, "evaluators_min", std::min(validation.evaluators_min, std::max(validation.evaluators, 1U)));
  validation.holdout_min = read_u64(in, "holdout_min", validation.holdout_min);
  validation.holdout_max = read_u64(in, "holdout_max", validation.holdout_max);
  validation.tolerance = in.number("tolerance", validation.tolerance);
  validation.deadline = read_seconds(in, "deadline_s", validation.deadline);
}

void read_limits(TomlReader in, LimitsConfig& core, ServerSettings& server) {
  core.heartbeat = read_seconds(in, "heartbeat_s", core.heartbeat);
  core.storage_backoff = read_milliseconds(in, "storage_backoff_ms", core.storage_backoff);
  core.shutdown_backoff = read_milliseconds(in, "shutdown_backoff_ms", core.shutdown_backoff);
  core.versions_kept = read_u32(in, "versions_kept", core.versions_kept);
  core.verdict_rounds = read_u32(in, "verdict_rounds", core.verdict_rounds);
  core.rounds_listed = read_u32(in, "rounds_listed", core.rounds_listed);
  core.overlap_below = read_u32(in, "overlap_below", core.overlap_below);
  Limits& limits = server.limits;
  limits.heartbeat_interval = core.heartbeat;
  server.blob_quota_bytes = read_mib(in, "blob_quota_mib", server.blob_quota_bytes);
  server.admin_body_bytes_max = read_mib(in, "admin_body_max_mib", server.admin_body_bytes_max);
  limits.content_bytes_max = read_mib(in, "content_max_mib", limits.content_bytes_max);
  limits.transfer_memory = read_mib(in, "transfer_memory_mib", limits.transfer_memory);
  limits.unauthenticated_max = read_u32(in, "unauthenticated_max", limits.unauthenticated_max);
  limits.unauthenticated_per_prefix_max = read_u32(in, "unauthenticated_per_network_max", limits.unauthenticated_per_prefix_max);
  if (limits.unauthenticated_max == 0) in.reject("unauthenticated_max", "must be at least 1, or nobody can connect");
  if (limits.unauthenticated_per_prefix_max == 0) {
    in.reject("unauthenticated_per_network_max", "must be at least 1, or nobody can connect");
  }
  if (limits.content_bytes_max > server.blob_quota_bytes) {
    in.reject("content_max_mib", "is above blob_quota_mib: such content could never be stored");
  }
}

/// What check(Config) says in the form "[section] key what", at its place in the file.
void reject_at(TomlReader& root, const std::string& detail) {
  const std::size_t bracket = detail.find("] ");
  const std::size_t end = bracket == std::string::npos ? std::string::npos : detail.find(' ', bracket + 2);
  if (!detail.starts_with('[') || end == std::string::npos) return root.reject("round", detail);
  TomlReader section = root.table(detail.substr(1, bracket - 1));
  section.reject(detail.substr(bracket + 2, end - bracket - 2), detail.substr(end + 1));
}

Result<ConfigFile> read(TomlReader root) {
  ConfigFile config;
  read_server(root.table("coordinator"), config.server);
  read_round(root.table("round"), config.core.round);
  read_training(root.table("training"), config.core.training);
  read_delta(root.table("delta"), config.core.delta);
  read_aggregation(root.table("aggregation"), config.core.aggregation);
  read_validation(root.table("validation"), config.core.validation);
  read_limits(root.table("limits"), config.core.limits, config.server);
  if (const Status status = check(config.core); !status) reject_at(root, status.error().detail);
  if (const Status status = root.finish(); !status) return std::unexpected(status.error());
  return config;
}

}  // namespace

Result<ConfigFile> load_config(const std::filesystem::path& file) {
  auto reader = TomlReader::read_file(file);
  if (!reader) return std::unexpected(reader.error());
  return read(std::move(*reader));
}

Result<ConfigFile> parse_config(std::string_view text, const std::filesystem::path& source) {
  auto reader = TomlReader::parse(text, source);
  if (!reader) return std::unexpected(reader.error());
  return read(std::move(*reader));
}

std::string render_config(const Endpoint& listen, const Endpoint& admin) {
  return fmt::format(R"(# The settings of rivulet-coordinator. A change counts from the next start on, and never reaches
# into a round that runs. An unknown key is an error.

[coordinator]
listen = "{}"    # for nodes, HOST:PORT; port 0 picks one
admin = "{}"     # HTTP for the operator and for metrics: keep it on loopback, it has no TLS
public_address = ""          # HOST:PORT that join tokens name; "" is the address above
worker_threads = 0           # that share an aggregation; 0: one a core
admin_threads = 8

[round]
mode = "sync"
cohort = 10                  # updates that a round wants
over_selection = 1.3         # times the cohort is how many nodes are asked
goal = 0                     # closes at so many accepted updates; 0: at the cohort
cohort_min = 2               # with fewer eligible nodes no training starts
updates_min = 2              # with fewer accepted updates the round fails
selection_patience_s = 5     # how long a full cohort is waited for
selection_deadline_s = 600   # then a round without cohort_min nodes fails
deadline_s = 600             # for training and upload
failure_pause_s = 5          # between a failed round and the next one
samples_min = 1              # a node with fewer labelled samples is not asked
sample_count_max = 100000    # an update that claims more is refused
refusals_max = 3             # refused candidates in a row that stop the schedule

[training]
epochs = 1
batch_size = 10
learning_rate = 0.1
momentum = 0.0
weight_decay = 0.0
proximal_mu = 0.0            # FedProx; 0: none
optimizer = "sgd"            # or "adam"

[delta]
codec = "int8"               # or "fp32": how updates travel
norm_bound = 10.0            # L2; deltas are clipped to it, and refused above 4 times; 0: none

[aggregation]
rule = "mean"
optimizer = "fedavg"
server_learning_rate = 1.0

[validation]
mode = "both"                # federated: nodes' holdouts, central: the release's, both, none
evaluators = 10              # nodes that are asked
evaluators_min = 2           # with fewer reports nothing is published
holdout_min = 50             # samples over all reports
holdout_max = 10000          # a node's samples beyond this add no weight
tolerance = 0.01             # the largest fall in accuracy that passes, a fraction
deadline_s = 600

[limits]
heartbeat_s = 60             # a node that is silent for three of these is taken for gone
storage_backoff_ms = 30000   # how long nodes stay away while the disk is full
shutdown_backoff_ms = 5000   # … and after a shutdown
versions_kept = 10           # whose weights stay on the disk
verdict_rounds = 100         # rounds back for which verdicts are kept
rounds_listed = 1000
overlap_below = 20           # in smaller fleets an evaluator may have trained
blob_quota_mib = 16384       # of all models and updates on the disk
content_max_mib = 1024       # of one of them
transfer_memory_mib = 64     # for all uploads under way together
admin_body_max_mib = 256     # of a release with its data, as the admin API takes it
unauthenticated_max = 256    # connections that have not shown who they are …
unauthenticated_per_network_max = 8  # … and of those from one /24 or /56
)",
                     to_string(listen), to_string(admin));
}

}  // namespace rivulet::coordinator
