#include "coordinator/core/views.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

Error import_error(Bench& bench, const Release& release, const SecretKey& key = release_key()) {
  const auto effects = bench.give(event::ImportRelease{1,
                                                       rivulet::seal(key, Context::release, encode(release)),
                                                       content("r"),
                                                       content("s"),
                                                       24,
                                                       {},
                                                       content("m"),
                                                       {},
                                                       false,
                                                       false});
  const auto replies = all_of<effect::Reply>(effects);
  return replies.empty() ? Error{} : replies[0].result.error();
}

}  // namespace

TEST_CASE("a release is imported once, signed by a release key, for this fleet", "[coordinator][registry]") {
  Bench bench;
  REQUIRE(import_error(bench, test_release(), node_key(1)).code == Errc::refused);
  REQUIRE(import_error(bench, test_release(), coordinator_key()).code == Errc::refused);
  Release other = test_release();
  other.fleet = FleetId{};
  REQUIRE(import_error(bench, other).code == Errc::refused);
  other = test_release();
  other.limits.expires = bench.now.utc;
  REQUIRE(import_error(bench, other).code == Errc::refused);

  const auto effects = bench.import();
  REQUIRE(all_of<effect::Reply>(effects).at(0).result->at("version") == 1);
  REQUIRE(bench.state.registry.head == 1);
  REQUIRE(bench.records["releases"].size() == 1);
  const auto again = bench.import();
  REQUIRE(all_of<effect::SealVersion>(again).empty());
  REQUIRE(all_of<effect::Reply>(again).at(0).result->at("version") == 1);
  Release newer = test_release();
  newer.epoch = 2;
  bench.import(newer);
  REQUIRE(bench.state.registry.head == 2);
  REQUIRE(bench.state.registry.find(2)->manifest.parent == 0);
  REQUIRE(bench.state.registry.find(2)->manifest.epoch == 2);
  newer.epoch = 1;
  REQUIRE(import_error(bench, newer).code == Errc::refused);
}

TEST_CASE("a release keeps the samples that it was imported with", "[coordinator][registry]") {
  Bench bench;
  const Envelope envelope = rivulet::seal(release_key(), Context::release, encode(test_release()));
  event::ImportRelease event{7, envelope, content("r"), content("s"), 24, {}, content("m"), {}, true, true};
  event.holdout_hash = sha256(bytes_of("holdout"));
  event.test_hash = sha256(bytes_of("test"));
  bench.sealed(all_of<effect::SealVersion>(bench.give(event)).at(0));
  nlohmann::json imported;
  for (const std::string& line : audit_of(bench.records)) {
    if (line.find("release_imported") != std::string::npos) imported = nlohmann::json::parse(line);
  }
  REQUIRE(imported.at("holdout") == event.holdout_hash.hex());
  REQUIRE(imported.at("test") == event.test_hash.hex());
  bench.restart();
  REQUIRE(all_of<effect::Reply>(bench.give(event)).at(0).result->at("version") == 1);
  const auto other = GENERATE(0, 1, 2);
  if (other == 0) event.holdout_hash = sha256(bytes_of("samples that everything passes"));
  if (other == 1) event.test_hash = sha256(bytes_of("an easy test"));
  if (other == 2) event.has_holdout = false;
  REQUIRE(all_of<effect::Reply>(bench.give(event)).at(0).result.error().code == Errc::conflict);
}

TEST_CASE("a model of another name does not take the place of the fleet's", "[coordinator][registry]") {
  Bench bench;
  bench.import();
  Release other = test_release();
  other.name = "letters";
  const Error error = import_error(bench, other);
  REQUIRE(error.code == Errc::conflict);
  REQUIRE(error.detail.find("\"digits\"") != std::string::npos);
  REQUIRE(bench.state.registry.head == 1);
}

TEST_CASE("a release names only a teacher that the fleet has, and that does the same",
          "[coordinator][registry]") {
  Bench bench;
  bench.import();
  const ReleaseId first = *bench.state.registry.active;
  Release student = test_release();
  student.created += 1s;
  const auto refused_for = [&](const Teacher& teacher, const std::string& words) {
    student.teacher = teacher;
    const Error error = import_error(bench, student);
    INFO(error.detail);
    REQUIRE(error.code == Errc::refused);
    REQUIRE(error.detail.find(words) != std::string::npos);
  };
  refused_for({ReleaseId{}, 1}, "which this fleet does not have");
  refused_for({first, 2}, "version 2 as its teacher, which is none of");
  student.classes = {"up", "down"};
  refused_for({first, 1}, "other classes");
  student.classes = test_release().classes;
  REQUIRE(bench.state.registry.versions.size() == 1);

  bench.import(student);
  const auto audit = audit_of(bench.records);
  const auto imported = std::ranges::find_if(audit.rbegin(), audit.rend(), [](const std::string& line) {
    return line.find("release_imported") != std::string::npos;
  });
  const nlohmann::json teacher = {{"release", first.hex()}, {"version", 1}};
  REQUIRE(nlohmann::json::parse(*imported).at("teacher") == teacher);
  bench.restart();
  REQUIRE(versions_view(bench.state).at(0).at("teacher").is_null());
  REQUIRE(versions_view(bench.state).at(1).at("teacher") == teacher);
  // Of a version of the first release when the second is active: the fleet still has it.
  Release grandchild = student;
  grandchild.created += 1s;
  bench.import(grandchild);
  REQUIRE(bench.state.registry.head == 3);
}

TEST_CASE("an import that can't be sealed is answered, and may be tried again", "[coordinator][registry]") {
  Bench bench;
  const Envelope envelope = rivulet::seal(release_key(), Context::release, encode(test_release()));
  const event::ImportRelease event{7,  envelope,     content("r"), content("s"), 24,
                                   {}, content("m"), {},           false,        false};
  const auto question = all_of<effect::SealVersion>(bench.give(event)).at(0);
  REQUIRE(all_of<effect::Reply>(bench.give(event)).at(0).result.error().code == Errc::busy);
  const auto effects =
      bench.give(event::PublicationFailed{question.manifest.manifest_version, {Errc::corrupt, "w_0"}});
  REQUIRE(all_of<effect::Reply>(effects).at(0).result.error().detail == "w_0");
  REQUIRE(all_of<effect::SealVersion>(bench.give(event)).size() == 1);
}

TEST_CASE("of an import that fails nothing stays that was stored for it", "[coordinator][registry]") {
  Bench bench;
  bench.import();
  const VersionRecord first = *bench.state.registry.find(1);
  Release newer = test_release();
  newer.created += 1s;
  newer.initial_weights = content("w1");
  event::ImportRelease event{7,
                             rivulet::seal(release_key(), Context::release, encode(newer)),
                             content("r"),
                             content("s"),
                             24,
                             {},
                             first.master,
                             {},
                             false,
                             false};
  std::vector<Effect> effects;
  std::vector<ContentId> gone{content("r"), content("s")};
  SECTION("refused") {
    event.release = rivulet::seal(node_key(1), Context::release, encode(newer));
    effects = bench.give(event);
  }
  SECTION("not stored as a whole") {
    effects = bench.give(
        event::ImportFailed{7, {Errc::storage_full, "full"}, {content("r"), content("s"), first.master}});
  }
  SECTION("not sealed") {
    const auto asked = all_of<effect::SealVersion>(bench.give(event)).at(0);
    // Another one that comes meanwhile is refused, and leaves alone what this one needs.
    REQUIRE(all_of<effect::EraseContent>(bench.give(event)).empty());
    effects = bench.give(event::PublicationFailed{
        asked.manifest.manifest_version, {Errc::refused, "no variant"}, {content("v")}});
    gone.insert(gone.end(), {content("v"), content("w1")});
  }
  REQUIRE_FALSE(all_of<effect::Reply>(effects).at(0).result.has_value());
  REQUIRE(std::holds_alternative<effect::Reply>(effects.back()));  // Only then may another import begin.
  std::vector<ContentId> erased;
  for (const auto& erase : all_of<effect::EraseContent>(effects)) erased.push_back(erase.content);
  std::ranges::sort(erased);
  std::ranges::sort(gone);
  REQUIRE(erased == gone);
}

}  // namespace rivulet::coordinator::testing
