#include "tests/coordinator_core/support.h"

#include <algorithm>
#include <memory>

#include "models/package/release.h"
#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator::testing {
namespace {

SecretKey key_from(unsigned n) {
  std::array<std::byte, 32> seed{};
  seed[0] = static_cast<std::byte>(n);
  seed[1] = static_cast<std::byte>(n >> 8);
  return SecretKey::from_seed(seed);
}

constexpr std::chrono::milliseconds year{365LL * 24 * 3600 * 1000};
const UtcTime start_of_time(std::chrono::milliseconds(1'800'000'000'000));

}  // namespace

const SecretKey& root_key() {
  static const SecretKey key = key_from(0xff01);
  return key;
}
const SecretKey& release_key() {
  static const SecretKey key = key_from(0xff02);
  return key;
}
const SecretKey& coordinator_key() {
  static const SecretKey key = key_from(0xff03);
  return key;
}
const SecretKey& node_key(unsigned n) {
  static std::map<unsigned, std::unique_ptr<SecretKey>> keys;
  auto& key = keys[n];
  if (!key) key = std::make_unique<SecretKey>(key_from(n));
  return *key;
}
PublicKey node_id(unsigned n) { return node_key(n).public_key(); }

FleetId test_fleet() { return *FleetId::from_hex("00112233445566778899aabbccddeeff"); }

JoinSecret test_secret(unsigned n) {
  JoinSecret secret;
  secret.bytes[0] = static_cast<std::byte>(n);
  return secret;
}

ContentId content(const std::string& text) { return content_id_of(bytes_of(text)); }

TrustDocument test_trust() {
  return {test_fleet(),
          "meadow",
          1,
          start_of_time - 1h,
          start_of_time + year,
          root_key().public_key(),
          {release_key().public_key()},
          coordinator_key().public_key()};
}

Release test_release() {
  Release release;
  release.fleet = test_fleet();
  release.name = "digits";
  release.architecture = {"mlp", {}, {2}, 2};
  release.layout.tensors = {{"0.weight", {2, 2}, TensorKind::parameter},
                            {"0.bias", {2}, TensorKind::parameter}};
  release.classes = {"no", "yes"};
  release.snapshot = SnapshotForm::fp32;
  release.initial_weights = content("w0");
  release.initial_weights_hash = sha256(bytes_of("w0"));
  release.recipes = {"fp32"};
  release.known_inputs = {0.5F, 0.25F};
  release.limits = {100.0, 0s, start_of_time + year};
  release.created = start_of_time - 1h;
  return release;
}

Config test_config() {
  Config config;
  config.round.cohort = 4;
  config.round.over_selection = 1.0;
  config.round.selection_patience = 0s;
  config.round.failure_pause = 0s;
  config.delta.codec = Codec::fp32;
  config.delta.norm_bound = 10.0;
  config.validation.mode = ValidationMode::federated;
  config.validation.evaluators = 4;
  return config;
}

void store_into(Records& records, const WriteBatch& writes) {
  for (const Write& write : writes) {
    if (const Put* put = std::get_if<Put>(&write)) {
      RIVULET_ASSERT(std::ranges::find(families, put->family) != families.end());
      records[put->family][put->key] = put->value;
    } else {
      const Erase& erase = std::get<Erase>(write);
      records[erase.family].erase(erase.key);
    }
  }
}

const std::map<Bytes, Bytes>& RecordStore::of(std::string_view family) const {
  static const std::map<Bytes, Bytes> none;
  const auto at = records_.find(std::string(family));
  return at == records_.end() ? none : at->second;
}

Status RecordStore::commit(const WriteBatch&, Durability) { return fail(Errc::storage, "is only read"); }

Result<std::optional<Bytes>> RecordStore::get(std::string_view family, ByteSpan key) const {
  const auto at = of(family).find(copy_of(key));
  return at == of(family).end() ? std::nullopt : std::optional(at->second);
}

Status RecordStore::scan(std::string_view family, ByteSpan prefix, const Visitor& visit,
                         ByteSpan from) const {
  RIVULET_ASSERT(prefix.empty());
  for (auto at = of(family).lower_bound(copy_of(from)); at != of(family).end(); ++at) {
    if (!visit(at->first, at->second)) break;
  }
  return {};
}

Result<std::optional<Entry>> RecordStore::last(std::string_view family, ByteSpan prefix) const {
  RIVULET_ASSERT(prefix.empty());
  if (of(family).empty()) return std::nullopt;
  const auto& [key, value] = *of(family).rbegin();
  return Entry{key, value};
}

std::vector<std::string> audit_of(const Records& records) {
  std::vector<std::string> entries;
  const auto at = records.find("audit");
  if (at == records.end()) return entries;
  for (const auto& [key, value] : at->second) entries.emplace_back(text_of(value));
  return entries;
}

CandidateBuilt candidate_for(const effect::Aggregate& question, double distance) {
  std::string text = "candidate";
  for (const SealedEntry& entry : question.entries) {
    text +=
        entry.task.hex() + entry.content.hex() + std::to_string(entry.weight) + std::to_string(entry.scale);
  }
  CandidateBuilt candidate;
  candidate.snapshot = content(text);
  candidate.snapshot_bytes = 24;
  candidate.form = SnapshotForm::fp32;
  candidate.weights_hash = sha256(bytes_of(text));
  candidate.master = content("master" + text);
  candidate.distance = distance;
  CandidateManifest manifest;
  manifest.fleet = test_fleet();
  manifest.round = question.round;
  manifest.release = question.release;
  manifest.release_content = question.release_content;
  manifest.parent = question.parent;
  manifest.parent_weights_hash = question.parent_weights_hash;
  manifest.form = candidate.form;
  manifest.snapshot = candidate.snapshot;
  manifest.snapshot_bytes = candidate.snapshot_bytes;
  manifest.weights_hash = candidate.weights_hash;
  candidate.manifest = rivulet::seal(coordinator_key(), Context::candidate, encode(manifest));
  return candidate;
}

event::VersionSealed seal_for(const effect::SealVersion& question) {
  event::VersionSealed sealed{question.manifest, {}, std::nullopt, {}};
  VariantInfo variant;
  variant.name = "fp32";
  variant.content = content("variant" + question.manifest.snapshot.hex());
  variant.bytes = 24;
  variant.known_outputs = {0.25F, 0.75F};
  sealed.manifest.variants = {variant};
  sealed.envelope = rivulet::seal(coordinator_key(), Context::version, encode(sealed.manifest));
  return sealed;
}

EvaluationReport report_for(const State& state, const PublicKey& node, const TaskId& task,
                            std::uint64_t parent_only, std::uint64_t candidate_only, std::uint64_t samples) {
  EvaluationReport report;
  report.fleet = test_fleet();
  report.task = task;
  report.node = node;
  report.parent_hash = state.round.plan.base_hash;
  if (const auto* gating = std::get_if<Gating>(&state.round.phase))
    report.candidate_hash = gating->candidate.weights_hash;
  report.parent_only = parent_only;
  report.candidate_only = candidate_only;
  report.both_right = samples - parent_only - candidate_only;
  report.parent_loss_sum = 1;
  report.candidate_loss_sum = 1;
  return report;
}

Bench::Bench(Config config) {
  const auto founded = found_fleet(sign_trust(test_trust(), root_key()), 42, now);
  RIVULET_ASSERT(founded.has_value());
  store_into(records, *founded);
  auto recovered = recover(config, RecordStore(records), now);
  RIVULET_ASSERT(recovered.has_value());
  state = std::move(*recovered);
}

std::vector<Effect> Bench::give(Event event) {
  Transition transition = step(state, event, now);
  store_into(records, transition.writes);
  return std::move(transition.effects);
}

std::vector<Effect> Bench::pass(std::chrono::milliseconds time) {
  now.monotonic += time;
  now.utc += time;
  return give(event::Tick{});
}

std::vector<Effect> Bench::restart() {
  auto recovered = recover(state.config, RecordStore(records), now);
  if (!recovered) std::fprintf(stderr, "recover: %s\n", recovered.error().detail.c_str());
  RIVULET_ASSERT(recovered.has_value());
  state = std::move(*recovered);
  Transition transition = resume(state, now);
  store_into(records, transition.writes);
  return std::move(transition.effects);
}

std::vector<Effect> Bench::import(const Release& release, bool has_holdout, bool has_test) {
  const std::string name = release.name + std::to_string(release.epoch) + to_rfc3339(release.created);
  auto effects = give(event::ImportRelease{++last_request,
                                           rivulet::seal(release_key(), Context::release, encode(release)),
                                           content("release" + name),
                                           content("snapshot" + name),
                                           24,
                                           release.initial_weights_hash,
                                           content("master" + name),
                                           {},
                                           has_holdout,
                                           has_test});
  const auto questions = all_of<effect::SealVersion>(effects);
  if (questions.empty()) return effects;
  return sealed(questions.at(0));
}

void Bench::enrol(unsigned n) {
  const Digest hash = sha256(test_secret(0).span());
  if (!state.fleet.tokens.contains(hash))
    give(event::CreateToken{++last_request, hash, now.utc + 24h, 100'000});
  give(event::EnrolReceived{n, node_id(n), message::Enrol{1, 1, test_fleet(), "test", test_secret(0)}});
}

std::vector<Effect> Bench::connect(unsigned n, std::uint64_t samples, std::uint64_t holdout,
                                   SessionId session) {
  if (session == 0) session = n;
  auto effects = give(event::HelloReceived{session, node_id(n), message::Hello{1, 1, test_fleet(), "test"}});
  message::Ready ready;
  ready.samples = samples;
  ready.holdout_samples = holdout;
  for (Effect& effect : give(event::ReadyReceived{session, ready})) effects.push_back(std::move(effect));
  return effects;
}

std::vector<Effect> Bench::start(std::uint32_t count) {
  return give(event::StartRounds{++last_request, count, false});
}

void Bench::fleet(unsigned count) {
  import();
  for (unsigned n = 1; n <= count; ++n) enrol(n);
  for (unsigned n = 1; n <= count; ++n) connect(n);
}

TaskId Bench::task_of(unsigned n) const {
  const auto& task = state.fleet.find(node_id(n))->task;
  return task ? *task : TaskId{};
}

UpdateHeader Bench::header_of(unsigned n, const std::string& delta) const {
  UpdateHeader header;
  header.fleet = test_fleet();
  header.task = task_of(n);
  header.node = node_id(n);
  header.base_version = state.round.plan.base;
  header.base_hash = state.round.plan.base_hash;
  header.codec = state.round.plan.training.codec;
  header.parameter_count = 6;
  header.sample_count = 10;
  header.loss_first = 2;
  header.loss_last = 1;
  header.content = content(delta + std::to_string(n) + header.task.hex());
  header.content_bytes = state.round.plan.update_bytes_max;
  header.time = now.utc;
  return header;
}

std::vector<Effect> Bench::offer(unsigned n, const UpdateHeader& header) {
  return give(event::OfferReceived{state.fleet.find(node_id(n))->session,
                                   rivulet::seal(node_key(n), Context::update, encode(header))});
}

std::vector<Effect> Bench::upload(unsigned n, double norm) {
  const UpdateHeader header = header_of(n);
  offer(n, header);
  return give(event::UpdateStored{header.task, header.content, {norm, header.content_bytes}});
}

std::vector<Effect> Bench::report(unsigned n, std::uint64_t parent_only, std::uint64_t candidate_only,
                                  std::uint64_t samples) {
  const auto report = report_for(state, node_id(n), task_of(n), parent_only, candidate_only, samples);
  return give(event::EvaluationReceived{state.fleet.find(node_id(n))->session,
                                        rivulet::seal(node_key(n), Context::evaluation, encode(report))});
}

std::vector<Effect> Bench::aggregated(const effect::Aggregate& question, double distance) {
  return give(event::Aggregated{question.round, question.attempt, candidate_for(question, distance)});
}

std::vector<Effect> Bench::sealed(const effect::SealVersion& question) { return give(seal_for(question)); }

std::vector<Effect> Bench::up_to_gating() {
  std::vector<Effect> effects;
  for (unsigned n = 1; n <= state.fleet.nodes.size(); ++n) {
    if (in<Training>() && !task_of(n).is_zero()) effects = upload(n);
  }
  return aggregated(all_of<effect::Aggregate>(effects).at(0));
}

void Bench::publish_one() {
  up_to_gating();
  std::vector<Effect> effects;
  for (unsigned n = 1; n <= state.fleet.nodes.size(); ++n) {
    if (in<Gating>() && !task_of(n).is_zero()) effects = report(n, 0, 0);
  }
  sealed(all_of<effect::SealVersion>(effects).at(0));
}

std::optional<VerdictRecord> Bench::verdict_of(const TaskId& task) const {
  const auto at = state.verdicts.find(task);
  if (at == state.verdicts.end()) return std::nullopt;
  return at->second;
}

}  // namespace rivulet::coordinator::testing
