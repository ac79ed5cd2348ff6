#include "coordinator/core/views.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

void refuse_one(Bench& bench) {
  bench.up_to_gating();
  for (unsigned n = 1; n <= bench.state.fleet.nodes.size(); ++n) {
    if (bench.in<Gating>() && !bench.task_of(n).is_zero()) bench.report(n, 40, 0);
  }
}

/// Stores the registry as a roll-back of the head leaves it.
void put_registry_of(Bench& bench) {
  const Registry& registry = bench.state.registry;
  bench.records["meta"][copy_of(bytes_of("registry"))] =
      record_bytes({{"head", registry.head},
                    {"manifest_version", registry.manifest_version},
                    {"active", registry.active->hex()}});
}

std::vector<std::string> events_of(const std::vector<Effect>& effects) {
  std::vector<std::string> names;
  for (const effect::Notice& notice : all_of<effect::Notice>(effects)) names.push_back(notice.event);
  return names;
}

/// The variant of the version that nodes serve.
ContentId served_variant(const Bench& bench) {
  return bench.state.registry.find(bench.state.registry.assigned)->manifest.variants.at(0).content;
}

}  // namespace

TEST_CASE("after three refusals in a row the schedule stops and says so", "[coordinator][schedule]") {
  Bench bench;
  bench.fleet(2);
  bench.give(event::StartRounds{5, 10, true});
  const VersionRecord before = *bench.state.registry.find(1);
  for (int k = 0; k < 2; ++k) {
    refuse_one(bench);
    bench.pass(1s);
    REQUIRE(bench.in<Training>());
  }
  bench.up_to_gating();
  bench.report(1, 40, 0);
  const auto effects = bench.report(2, 40, 0);
  const auto names = events_of(effects);
  REQUIRE(std::ranges::find(names, "schedule_stopped") != names.end());
  const auto reply = all_of<effect::Reply>(effects).at(0);
  REQUIRE(reply.request == 5);
  REQUIRE(reply.result->at("rounds").size() == 3);
  REQUIRE(reply.result->at("rounds")[0]["state"] == "refused");
  REQUIRE(reply.result->contains("stopped"));
  bench.pass(1h);
  REQUIRE(bench.in<Idle>());
  REQUIRE(status_view(bench.state, bench.now)["schedule"]["stopped"] != "");
  REQUIRE(status_view(bench.state, bench.now)["release"]["expired"] == false);
  const Now later{bench.now.monotonic, bench.state.registry.active_release()->release.limits.expires};
  REQUIRE(status_view(bench.state, later)["release"]["expired"] == true);
  // Model, master and assignment are those from before.
  REQUIRE(bench.state.registry.head == 1);
  REQUIRE(bench.state.registry.assigned == 1);
  REQUIRE(bench.state.registry.find(1)->master == before.master);
  bench.restart();
  REQUIRE_FALSE(bench.state.schedule.stopped.empty());

  bench.connect(1);
  bench.connect(2);
  bench.start();
  REQUIRE(bench.state.schedule.stopped.empty());
  REQUIRE(bench.state.schedule.refusals == 0);
  REQUIRE(bench.state.round.plan.round == 4);
}

TEST_CASE("a publication ends a row of refusals", "[coordinator][schedule]") {
  Bench bench;
  bench.fleet(2);
  bench.start(4);
  refuse_one(bench);
  bench.pass(1s);
  refuse_one(bench);
  bench.pass(1s);
  REQUIRE(bench.state.schedule.refusals == 2);
  bench.publish_one();
  REQUIRE(bench.state.schedule.refusals == 0);
  REQUIRE(bench.state.round.plan.round == 4);
  REQUIRE(bench.state.round.plan.base == 2);
}

TEST_CASE("who waits for rounds hears when the last of them is over", "[coordinator][schedule]") {
  Bench bench;
  bench.fleet(2);
  bench.give(event::StartRounds{5, 2, true});
  REQUIRE(all_of<effect::Reply>(bench.give(event::StartRounds{6, 1, false})).at(0).result->at("first") == 3);
  bench.publish_one();
  bench.up_to_gating();
  bench.report(1, 0, 0);
  const auto effects = bench.sealed(all_of<effect::SealVersion>(bench.report(2, 0, 0)).at(0));
  const auto replies = all_of<effect::Reply>(effects);
  REQUIRE(replies.size() == 1);
  REQUIRE(replies[0].request == 5);
  REQUIRE(replies[0].result->at("rounds").size() == 2);
  REQUIRE(replies[0].result->at("rounds")[1]["version"] == 3);
  REQUIRE(bench.state.round.plan.round == 3);
}

TEST_CASE("rounds need a model, and a holdout where one is asked for", "[coordinator][schedule]") {
  Config config = test_config();
  config.validation.mode = ValidationMode::central;
  Bench bench(config);
  const auto error = [&] { return all_of<effect::Reply>(bench.start()).at(0).result.error().code; };
  REQUIRE(error() == Errc::not_found);
  bench.import();
  REQUIRE(error() == Errc::invalid);
}

TEST_CASE("versions keep the release's interval", "[coordinator][publishing]") {
  Release release = test_release();
  release.limits.min_interval = 3600s;
  Bench bench;
  bench.import(release);
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  bench.start();
  bench.pass(100s);
  bench.up_to_gating();
  bench.report(1, 0, 0);
  REQUIRE(all_of<effect::SealVersion>(bench.report(2, 0, 0)).empty());
  REQUIRE(bench.in<Publishing>());
  REQUIRE(next_deadline(bench.state) == bench.now.monotonic + 3500s);
  SECTION("time passes") {
    REQUIRE(all_of<effect::SealVersion>(bench.pass(3499s)).empty());
    REQUIRE(all_of<effect::SealVersion>(bench.pass(1s)).size() == 1);
    REQUIRE_FALSE(next_deadline(bench.state));
  }
  SECTION("also over a restart") {
    bench.now.monotonic = 5s;
    REQUIRE(all_of<effect::SealVersion>(bench.restart()).empty());
    REQUIRE(next_deadline(bench.state) == 3505s);
    REQUIRE(all_of<effect::SealVersion>(bench.pass(3500s)).size() == 1);
  }
}

TEST_CASE("each published round prunes one step further, a refused one none", "[coordinator][publishing]") {
  Release release = test_release();
  release.pruning = {.sparsity = 0.8, .begin = 1, .rounds = 2};
  Bench bench;
  bench.import(release);
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  const auto restart = [&] {
    auto effects = bench.restart();
    for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
    return effects;
  };
  /// What the next candidate is to be pruned to; it is built then.
  const auto next_sparsity = [&] {
    bench.upload(1);
    const auto asked = all_of<effect::Aggregate>(bench.upload(2)).at(0);
    // A crash while it is built asks for the same again.
    const auto again = all_of<effect::Aggregate>(restart()).at(0);
    REQUIRE(again.sparsity == asked.sparsity);
    bench.aggregated(again);
    return again.sparsity;
  };
  const auto end_round = [&](std::uint64_t losses) {
    bench.report(1, losses, 0);
    const auto seals = all_of<effect::SealVersion>(bench.report(2, losses, 0));
    if (losses == 0) bench.sealed(seals.at(0));
    bench.pass(1s);
  };
  const auto shown = [&](VersionNumber version) {
    return version_view(bench.state, version)->at("sparsity").get<double>();
  };
  bench.start(5);
  REQUIRE(next_sparsity() == 0.0);  // Step 1 is still the last that prunes nothing.
  end_round(0);
  REQUIRE(bench.state.registry.head == 2);
  const double middle = 0.8 * (1 - 0.5 * 0.5 * 0.5);
  REQUIRE(next_sparsity() == Approx(middle).epsilon(1e-14));
  end_round(40);
  REQUIRE(bench.state.registry.head == 2);
  REQUIRE(next_sparsity() == Approx(middle).epsilon(1e-14));
  end_round(0);
  restart();
  REQUIRE(next_sparsity() == 0.8);
  end_round(0);
  REQUIRE(next_sparsity() == 0.8);
  end_round(0);
  restart();
  REQUIRE(bench.state.registry.head == 5);
  REQUIRE(bench.state.registry.find(5)->steps == 4);
  REQUIRE(shown(1) == 0.0);
  REQUIRE(shown(3) == Approx(middle).epsilon(1e-14));
  REQUIRE(shown(5) == 0.8);

  // Rounds that go on from an earlier version go on from its step.
  bench.state.registry.head = 2;
  put_registry_of(bench);
  restart();
  bench.start(1);
  REQUIRE(bench.state.round.plan.base == 2);
  REQUIRE(next_sparsity() == Approx(middle).epsilon(1e-14));
}

TEST_CASE("an expired release or trust document publishes nothing new", "[coordinator][publishing]") {
  Release release = test_release();
  release.limits.expires = UtcTime(std::chrono::milliseconds(1'800'000'000'000)) + 1h;
  const bool during = GENERATE(false, true);
  Bench bench;
  bench.import(release);
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  if (during) {
    bench.start(5);
    const TaskId task = bench.task_of(1);
    bench.up_to_gating();
    bench.report(1, 0, 0);
    bench.now.utc += 1h;
    const auto effects = bench.report(2, 0, 0);
    REQUIRE(all_of<effect::SealVersion>(effects).empty());
    const auto names = events_of(effects);
    REQUIRE(std::ranges::find(names, "publication_refused") != names.end());
    REQUIRE(bench.verdict_of(task)->reason == Reason::round_failed);
    bench.pass(1s);
    REQUIRE_FALSE(bench.state.schedule.stopped.empty());
  } else {
    bench.now.utc += 1h;
    REQUIRE(all_of<effect::Reply>(bench.start()).at(0).result.error().code == Errc::refused);
  }
  REQUIRE(bench.state.registry.assigned == 1);
}

TEST_CASE("a new release ends the round of the old one", "[coordinator][registry]") {
  Bench bench;
  bench.fleet(2);
  bench.start(2);
  const TaskId task = bench.task_of(1);
  bench.up_to_gating();
  Release newer = test_release();
  newer.created += 1s;
  bench.import(newer);
  REQUIRE(bench.state.rounds.back().reason == "a new release was imported");
  REQUIRE(bench.verdict_of(task)->reason == Reason::round_failed);
  bench.pass(1s);
  REQUIRE(bench.state.round.plan.base == 2);
  REQUIRE(bench.state.round.plan.release == *bench.state.registry.active);
}

TEST_CASE("a publication that fails fails the round, a full disk only delays it",
          "[coordinator][publishing]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  bench.up_to_gating();
  bench.report(1, 0, 0);
  bench.report(2, 0, 0);
  SECTION("full") {
    bench.give(event::PublicationFailed{2, {Errc::storage_full, "full"}});
    REQUIRE(all_of<effect::SealVersion>(bench.pass(1s)).empty());
    REQUIRE(all_of<effect::SealVersion>(bench.give(event::StorageState{false, false})).size() == 1);
  }
  SECTION("anything else") {
    bench.give(event::PublicationFailed{2, {Errc::internal, "the recipe failed"}});
    REQUIRE(bench.state.rounds.back().reason == "publication: the recipe failed");
    REQUIRE(bench.state.registry.manifest_version == 1);
  }
}

TEST_CASE("publications that fail time after time stop the schedule, and leave nothing stored",
          "[coordinator][publishing]") {
  Bench bench;
  bench.fleet(2);
  bench.start(10);
  const auto fail_one = [&] {
    bench.up_to_gating();
    bench.report(1, 0, 0);
    const auto asked = all_of<effect::SealVersion>(bench.report(2, 0, 0)).at(0);
    const auto variant = seal_for(asked).manifest.variants.at(0).content;
    // One of what was derived is the served version's too.
    const auto effects = bench.give(event::PublicationFailed{asked.manifest.manifest_version,
                                                             {Errc::refused, "no variant is good enough"},
                                                             {variant, served_variant(bench)}});
    const auto erased = all_of<effect::EraseContent>(effects);
    const auto is_erased = [&](const ContentId& content) {
      return std::ranges::find(erased, content, &effect::EraseContent::content) != erased.end();
    };
    REQUIRE(is_erased(variant));
    REQUIRE(is_erased(asked.manifest.snapshot));
    REQUIRE_FALSE(is_erased(served_variant(bench)));
    bench.pass(1s);
  };
  fail_one();
  bench.publish_one();
  bench.pass(1s);
  fail_one();
  refuse_one(bench);  // Its aggregation did not fail, and nothing was published.
  bench.pass(1s);
  fail_one();
  REQUIRE(bench.state.schedule.stopped.empty());
  fail_one();
  REQUIRE(bench.state.schedule.stopped ==
          "3 rounds have failed in aggregation or publication since the last version, the last one because "
          "no variant is good enough");
  REQUIRE(bench.in<Idle>());
}

TEST_CASE("candidates are refused in a row if none between them passed", "[coordinator][schedule]") {
  Bench bench;
  bench.fleet(2);
  bench.start(10);
  const auto refuse_two = [&] {
    for (int k = 0; k < 2; ++k) {
      refuse_one(bench);
      bench.pass(1s);
    }
  };
  refuse_two();
  bench.up_to_gating();
  bench.report(1, 0, 0);
  const auto asked = all_of<effect::SealVersion>(bench.report(2, 0, 0)).at(0);
  bench.give(event::PublicationFailed{asked.manifest.manifest_version, {Errc::internal, "no"}, {}});
  bench.pass(1s);
  refuse_two();
  REQUIRE(bench.state.schedule.stopped.empty());
  refuse_one(bench);
  REQUIRE(bench.state.schedule.stopped.starts_with("3 candidates in a row were refused"));
}

TEST_CASE("the audit log says which variant was left out, and why", "[coordinator][publishing]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  bench.up_to_gating();
  bench.report(1, 0, 0);
  const auto asked = all_of<effect::SealVersion>(bench.report(2, 0, 0));
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].variant_tolerance == 0.02);
  auto sealed = seal_for(asked[0]);
  sealed.left_out = {{"int8 kernels", "accuracy falls"}};
  const auto done = bench.give(sealed);
  CHECK(events_of(done) == std::vector<std::string>{"variant_left_out", "version_published"});
  const auto entry = nlohmann::json::parse(audit_of(bench.records).back());
  CHECK(entry.at("event") == "version_published");
  CHECK(entry.at("left_out") == nlohmann::json{{"int8 kernels", "accuracy falls"}});
}

TEST_CASE("a version shows how its int8 runs, and what it lacks", "[coordinator][publishing]") {
  Bench bench;
  Release release = test_release();
  release.recipes = {"fp32", "int8"};
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  bench.import(release);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  bench.start();
  bench.up_to_gating();
  bench.report(1, 0, 0);
  auto sealed = seal_for(all_of<effect::SealVersion>(bench.report(2, 0, 0)).at(0));
  VariantInfo int8 = sealed.manifest.variants.at(0);
  int8.name = "int8";
  int8.content = content("in int8");
  auto lacking = nlohmann::json::array();
  nlohmann::json form;
  std::vector<std::string> left;
  SECTION("static") {
    int8.int8_kernels = Int8Kernels{{{{0, 1}}, {}}, int8.known_outputs, 0.05F};
    form = "static";
  }
  SECTION("static but for two modules") {
    left = {"same", "up"};
    int8.int8_kernels = Int8Kernels{{{{0, 1}}, left}, int8.known_outputs, 0.05F};
    form = "static";
  }
  SECTION("dynamic") {
    int8.int8_kernels = Int8Kernels{{}, int8.known_outputs, 0.05F};
    form = "dynamic";
  }
  SECTION("by ranges of each node") { int8.own_ranges = true; }
  SECTION("in float") { lacking = {"int8 kernels"}; }
  SECTION("not at all") { lacking = {"int8"}; }
  if (lacking != nlohmann::json{"int8"}) sealed.manifest.variants.push_back(int8);
  bench.give(sealed);
  const auto shown = version_view(bench.state, 2);
  REQUIRE(shown);
  CHECK(shown->at("not_published") == lacking);
  if (lacking == nlohmann::json{"int8"}) return;
  const nlohmann::json& variant = shown->at("variants").at(1);
  CHECK(variant.value("int8_form", nlohmann::json()) == form);
  CHECK(variant.value("kernels", "") == (form.is_string() ? "int8" : int8.own_ranges ? "own" : ""));
  CHECK(variant.value("left_in_float", std::vector<std::string>()) == left);
  CHECK_FALSE(shown->at("variants").at(0).contains("left_in_float"));
}

TEST_CASE("old blobs go, those of a release's first version stay", "[coordinator][registry]") {
  Config config = test_config();
  config.limits.versions_kept = 3;
  Bench bench(config);
  bench.fleet(2);
  bench.start(6);
  for (int k = 0; k < 6; ++k) bench.publish_one();
  REQUIRE(bench.state.registry.head == 7);
  for (const auto& [number, version] : bench.state.registry.versions) {
    CAPTURE(number);
    REQUIRE(version.blobs_kept == (number == 1 || number >= 5));
  }
  const auto before = referenced_content(bench.state);
  bench.restart();
  REQUIRE(referenced_content(bench.state) == before);
  REQUIRE(versions_view(bench.state).size() == 7);
}

TEST_CASE("the views have the agreed keys", "[coordinator][views]") {
  Bench bench;
  bench.fleet(2);
  bench.start(2);
  bench.publish_one();
  const auto has = [](const nlohmann::json& object, std::initializer_list<const char*> keys) {
    return std::ranges::all_of(keys, [&](const char* key) { return object.contains(key); });
  };
  REQUIRE(has(nodes_view(bench.state).at(0), {"key", "state", "tags", "last_seen", "serves", "samples"}));
  REQUIRE(has(versions_view(bench.state).at(1),
              {"version", "release", "parent", "round", "created", "metrics", "variants"}));
  REQUIRE(versions_view(bench.state).at(1)["variants"][0] == nlohmann::json{{"name", "fp32"}, {"bytes", 24}});
  REQUIRE(versions_view(bench.state).at(1)["metrics"]["accuracy"] == 1.0);
  const auto rounds = rounds_view(bench.state);
  REQUIRE(rounds.size() == 2);
  for (const auto& round : rounds) {
    REQUIRE(has(round, {"round", "state", "reason", "invited", "accepted", "refused", "declined",
                        "upload_bytes", "download_bytes", "version"}));
  }
  REQUIRE(rounds[1]["state"] == "training");
  REQUIRE(round_view(bench.state, 1)->at("state") == "published");
  REQUIRE(round_view(bench.state, 9).error().code == Errc::not_found);
  REQUIRE(version_view(bench.state, 2)->at("fallback") == 1);
  REQUIRE(status_view(bench.state, bench.now)["round"]["round"] == 2);
}

TEST_CASE("a trust document is taken if the one in force leads to it", "[coordinator][trust]") {
  Bench bench;
  TrustDocument next = test_trust();
  next.version = 2;
  next.expires += 24h;
  const auto reply = [&](const SignedTrust& trust) {
    return all_of<effect::Reply>(bench.give(event::TrustChanged{1, trust})).at(0).result;
  };
  REQUIRE(reply(sign_trust(next, node_key(1))).error().code == Errc::refused);
  REQUIRE(bench.state.trust.version == 1);
  // Nodes hear of it when it is durable, and of the same one once.
  const auto effects = bench.give(event::TrustChanged{1, sign_trust(next, root_key())});
  REQUIRE(all_of<effect::ServeTrust>(effects).size() == 1);
  REQUIRE(all_of<effect::ServeTrust>(effects).at(0).trust == bench.state.trust_chain.back());
  REQUIRE(all_of<effect::Reply>(effects).at(0).result->at("version") == 2);
  const auto again = bench.give(event::TrustChanged{1, sign_trust(next, root_key())});
  REQUIRE(all_of<effect::ServeTrust>(again).empty());
  REQUIRE(all_of<effect::Reply>(again).at(0).result->at("version") == 2);
  REQUIRE_FALSE(reply(sign_trust(test_trust(), root_key())).has_value());
  REQUIRE(bench.state.trust_chain.size() == 2);
  bench.restart();
  REQUIRE(bench.state.trust == next);
  REQUIRE(bench.state.trust_chain.size() == 2);
}

}  // namespace rivulet::coordinator::testing
