#include "coordinator/server/config_file.h"

#include <spdlog/fmt/fmt.h>

#include <limits>

#include "config/toml_reader.h"
#include "coordinator/config/sections.h"

namespace rivulet::coordinator {
namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::int64_t mib_max = std::int64_t{1} << 30;

std::uint32_t read_u32(TomlReader& in, std::string_view key, std::uint32_t otherwise) {
  return static_cast<std::uint32_t>(in.integer(key, otherwise, 0, std::numeric_limits<std::uint32_t>::max()));
}

std::uint64_t read_mib(TomlReader& in, std::string_view key, std::uint64_t otherwise_bytes) {
  return static_cast<std::uint64_t>(
             in.integer(key, static_cast<std::int64_t>(otherwise_bytes / mib), 1, mib_max)) *
         mib;
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
  if (server.listen == server.admin && server.listen.port != 0)
    in.reject("admin", "is the same address as listen");
}

/// What of [limits] is the daemon's own; the rest is the core's.
void read_server_limits(TomlReader in, const LimitsConfig& core, ServerSettings& server) {
  Limits& limits = server.limits;
  limits.heartbeat_interval = core.heartbeat;
  server.blob_quota_bytes = read_mib(in, "blob_quota_mib", server.blob_quota_bytes);
  server.admin_body_bytes_max = read_mib(in, "admin_body_max_mib", server.admin_body_bytes_max);
  limits.content_bytes_max = read_mib(in, "content_max_mib", limits.content_bytes_max);
  limits.transfer_memory = read_mib(in, "transfer_memory_mib", limits.transfer_memory);
  limits.unauthenticated_max = read_u32(in, "unauthenticated_max", limits.unauthenticated_max);
  limits.unauthenticated_per_prefix_max =
      read_u32(in, "unauthenticated_per_network_max", limits.unauthenticated_per_prefix_max);
  if (limits.unauthenticated_max == 0)
    in.reject("unauthenticated_max", "must be at least 1, or nobody can connect");
  if (limits.unauthenticated_per_prefix_max == 0) {
    in.reject("unauthenticated_per_network_max", "must be at least 1, or nobody can connect");
  }
  if (limits.content_bytes_max > server.blob_quota_bytes) {
    in.reject("content_max_mib", "is above blob_quota_mib: such content could never be stored");
  }
}

Result<ConfigFile> read(TomlReader root) {
  ConfigFile config;
  read_server(root.table("coordinator"), config.server);
  read_round(root.table("round"), config.core.round);
  read_training(root.table("training"), config.core.training);
  read_delta(root.table("delta"), config.core.delta);
  read_aggregation(root.table("aggregation"), config.core.aggregation);
  read_validation(root.table("validation"), config.core.validation);
  read_limits(root.table("limits"), config.core.limits);
  read_server_limits(root.table("limits"), config.core.limits, config.server);
  check_together(root, config.core);
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
  return fmt::format(
      R"(# The settings of rivulet-coordinator. A change counts from the next start on, and never reaches
# into a round that runs. An unknown key is an error.

[coordinator]
listen = "{}"    # for nodes, HOST:PORT; port 0 picks one
admin = "{}"     # HTTP for the operator and for metrics: keep it on loopback, it has no TLS
public_address = ""          # HOST:PORT that join tokens name; "" is the address above
worker_threads = 0           # that share an aggregation; 0: one a core
admin_threads = 8            # that answer the admin API; `round start --wait` may hold half of them

[round]
mode = "sync"                # a round ends before the next one begins; there is no other mode
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
refusals_max = 3             # refused candidates in a row, or rounds whose work failed, that stop the schedule

[training]
epochs = 1                   # passes of a node over its samples, in each round
batch_size = 10              # samples a step
learning_rate = 0.1          # of the nodes' steps
momentum = 0.0               # of sgd, 0 to 1
weight_decay = 0.0           # L2: so many times the weights is added to each gradient; 0: none
proximal_mu = 0.0            # FedProx: pulls a node's weights to the round's; 0: none
optimizer = "sgd"            # of the nodes; or "adam"

[delta]
codec = "int8"               # or "fp32": how updates travel
norm_bound = 10.0            # L2; deltas are clipped to it, and refused above 4 times; 0: none

[aggregation]
rule = "mean"                # of the deltas, weighted by their samples; there is no other rule
optimizer = "fedavg"         # of the coordinator: adds the mean to the master; there is no other
server_learning_rate = 1.0   # times the mean

[validation]
mode = "both"                # federated: nodes' holdouts, central: the release's, both, none
evaluators = 10              # nodes that are asked
evaluators_min = 2           # with fewer reports nothing is published
holdout_min = 50             # samples over all reports
holdout_max = 10000          # a node's samples beyond this add no weight
tolerance = 0.01             # the largest fall in accuracy that passes, a fraction
variant_tolerance = 0.02     # a variant (int8) that falls further below its version on the holdout is left out
deadline_s = 600             # for the nodes' reports

[limits]
heartbeat_s = 60             # a node that is silent for three of these is taken for gone
storage_backoff_ms = 30000   # how long nodes stay away while the disk is full
shutdown_backoff_ms = 5000   # … and after a shutdown
versions_kept = 10           # whose weights stay on the disk
verdict_rounds = 100         # rounds back for which verdicts are kept; until then, and until their nodes know them
rounds_listed = 1000         # rounds that are over and can be asked for
overlap_below = 20           # with fewer nodes connected an evaluator may have trained
messages_burst = 400         # that a node may say at once, content and heartbeats apart …
messages_per_second = 20     # … and after that; one that says more is sent away for a while
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
