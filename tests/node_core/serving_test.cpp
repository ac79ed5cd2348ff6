#include "node/core/serving.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

struct Served : Rig {
  explicit Served(Fleet& the_fleet) : Rig(the_fleet) {
    for (const auto& manifest : {first, second, third}) serve(model, manifest);
    boot();
    run();
  }
  void assign(const VersionManifest& manifest) { hear(message::Assignment{fleet.sealed(manifest)}); }
  void fail_trial(std::uint64_t manifest, Reason reason) {
    step(event::ActivationFailed{manifest, reason, "as told"});
  }

  Model model = fleet.model();
  VersionManifest first = fleet.manifest(model, 1, 1);
  VersionManifest second = fleet.manifest(model, 2, 2);
  VersionManifest third = fleet.manifest(model, 3, 3);
};

}  // namespace

TEST_CASE("an assigned version is fetched whole, tried, served and reported", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  const auto fetched = rig.done_of<effect::Fetch>();
  REQUIRE(fetched.size() == 3);  // No variant: it is made of the snapshot here.
  CHECK(fetched[0].content == rig.model.content);
  CHECK(fetched[0].want_bytes);
  CHECK(fetched[1].content == content_of(1));
  CHECK(fetched[1].max_bytes == 60);
  CHECK(fetched[2].content == content_of(100));
  CHECK(fetched[2].max_bytes == Fleet::int8_bytes);
  const auto tried = rig.done_of<effect::Activate>();
  REQUIRE(tried.size() == 1);
  CHECK(tried[0].kind == effect::Activate::Kind::trial);
  CHECK(tried[0].variant == "int8");
  const auto told = rig.sent_of<message::Activation>();
  REQUIRE(told.size() == 1);
  CHECK(told[0] == message::Activation{1, 1, Reason::activated, ""});

  // The same manifest again is nothing new.
  rig.clear();
  rig.assign(rig.first);
  CHECK(rig.done.empty());
  const auto shown = status(rig.state, rig.now);
  CHECK(shown.at("serves").at("version") == 1);
  CHECK(shown.at("serves").at("variant") == "int8");
  CHECK(shown.at("service") == "loaded");
}

TEST_CASE("a node that wants fp32, or is not offered int8, serves fp32", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  SECTION("wants") {
    rig.crash();
    rig.config.variant = "fp32";
    rig.boot();
    rig.run();
  }
  SECTION("is not offered int8") { rig.first.variants.erase(rig.first.variants.begin()); }
  rig.assign(rig.first);
  REQUIRE(rig.done_of<effect::Activate>().size() == 1);
  CHECK(rig.done_of<effect::Activate>()[0].variant == "fp32");
  CHECK_FALSE(rig.blobs.contains(content_of(102)));
}

TEST_CASE("a node without the memory for any variant keeps what it serves and says so", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.crash();
  rig.config.device.memory_max = 10;
  rig.config.variant = GENERATE("auto", "int8");
  rig.boot();
  rig.run();
  rig.assign(rig.first);
  CHECK(rig.done_of<effect::Activate>().empty());
  const auto told = rig.sent_of<message::Activation>();
  REQUIRE(told.size() == 1);
  CHECK(told[0].outcome == Reason::too_large);
  CHECK(told[0].detail ==
        "no variant of version 1 that may be served fits into model.memory_max = 10 of node.toml");
}

TEST_CASE("the version before stays on disk, those before it go", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  CHECK(rig.state.serving.previous->manifest.version == 1);
  CHECK(rig.blobs.contains(content_of(100)));
  rig.assign(rig.third);
  CHECK(rig.in_service == 3);
  CHECK(rig.state.serving.previous->manifest.version == 2);
  CHECK_FALSE(rig.blobs.contains(content_of(100)));
  CHECK(rig.blobs.contains(content_of(200)));
  CHECK(rig.blobs.contains(rig.model.content));
  CHECK(rig.blobs == referenced_contents(rig.state));
}

TEST_CASE("a roll-back is a newer manifest of an older version", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  rig.clear();
  rig.assign(fleet.manifest(rig.model, 9, 1));
  CHECK(rig.in_service == 1);
  CHECK(rig.done_of<effect::Fetch>().empty());  // It was on disk.
  CHECK(rig.state.serving.previous->manifest.version == 2);
}

TEST_CASE("a version that fails its trial is reported and not tried again", "[node][serving]") {
  for (const Reason reason : {Reason::known_answers_wrong, Reason::worse_on_holdout, Reason::not_loadable}) {
    Fleet fleet;
    Served rig(fleet);
    rig.assign(rig.first);
    rig.activates = false;
    rig.clear();
    rig.assign(rig.second);
    rig.fail_trial(2, reason);
    CHECK(rig.in_service == 1);
    CHECK(rig.state.serving.active->manifest.version == 1);
    const auto told = rig.sent_of<message::Activation>();
    REQUIRE(told.size() == 1);
    CHECK(told[0] == message::Activation{2, 2, reason, "as told"});
    CHECK_FALSE(rig.blobs.contains(content_of(200)));
    rig.clear();
    rig.assign(rig.second);
    CHECK(rig.done.empty());
    rig.activates = true;
    rig.crash();
    rig.boot();
    rig.run();
    rig.assign(rig.second);
    CHECK(rig.in_service == 1);
    CHECK(rig.sent_of<message::Ready>().back().serves == 1);
    CHECK(rig.sent_of<message::Ready>().back().manifest_version == 2);
  }
}

TEST_CASE("an outcome is told in the next session, until one has lasted", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.activates = false;
  rig.assign(rig.first);
  rig.lose_connection();
  rig.step(event::ActivationDone{1});  // Offline.
  CHECK(rig.sent_of<message::Activation>().empty());
  rig.activates = true;
  rig.crash();
  rig.boot();
  rig.run();
  CHECK(rig.sent_of<message::Activation>().size() == 1);
  rig.lose_connection();
  rig.advance(2s);
  CHECK(rig.sent_of<message::Activation>().size() == 2);
  rig.advance(3min);
  rig.lose_connection();
  rig.advance(2s);
  REQUIRE(rig.online());
  CHECK(rig.sent_of<message::Activation>().size() == 2);
}

TEST_CASE("a model that fails in service gives way to the one before, offline too", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  rig.answers_connect = false;
  rig.lose_connection();
  rig.clear();
  rig.step(event::ActiveModelFailed{2, "answers are not finite"});
  const auto restored = rig.done_of<effect::Activate>();
  REQUIRE(restored.size() == 1);
  CHECK(restored[0].kind == effect::Activate::Kind::restoration);
  CHECK(restored[0].manifest.version == 1);
  CHECK(rig.noticed("fell_back", "not finite"));
  CHECK(rig.in_service == 1);
  CHECK_FALSE(rig.state.serving.previous);
  CHECK_FALSE(rig.blobs.contains(content_of(200)));
  SECTION("a late complaint about the old one does no harm") {
    rig.step(event::ActiveModelFailed{2, "late"});
    CHECK(rig.in_service == 1);
    CHECK(rig.state.serving.service == Service::loaded);
  }
  SECTION("the coordinator hears of it, and what failed is not served again") {
    rig.answers_connect = true;
    rig.advance(1min);
    REQUIRE(rig.online());
    const auto told = rig.sent_of<message::Activation>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].outcome == Reason::not_loadable);
    CHECK(told[0].version == 2);
    rig.assign(rig.second);
    CHECK(rig.in_service == 1);
    rig.assign(rig.third);
    CHECK(rig.in_service == 3);
  }
  SECTION("if that fails too, nothing serves until something new comes") {
    rig.step(event::ActiveModelFailed{1, "not finite either"});
    CHECK(rig.noticed("no_model_serves"));
    CHECK(served_version(rig.state) == 0);
    CHECK(rig.state.serving.active->manifest.version == 1);
    rig.answers_connect = true;
    rig.advance(1min);
    CHECK(rig.sent_of<message::Ready>().back().serves == 0);
    rig.assign(rig.third);
    CHECK(rig.in_service == 3);
    CHECK_FALSE(rig.state.serving.previous);
  }
}

TEST_CASE("at start the model in service comes back without a network, or the one before it",
          "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  rig.crash();
  rig.answers_connect = false;
  SECTION("it loads") {
    rig.boot();
    rig.run();
    CHECK(rig.in_service == 2);
    CHECK(rig.state.serving.service == Service::loaded);
  }
  SECTION("it does not load") {
    rig.activates = false;
    rig.boot();
    rig.run();
    rig.activates = true;
    rig.fail_trial(2, Reason::not_loadable);
    CHECK(rig.in_service == 1);
    CHECK(rig.state.serving.active->manifest.version == 1);
  }
}

TEST_CASE("the version that a manifest names to return to is kept before the last one", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  VersionManifest third = rig.third;
  third.fallback = VersionManifest::Fallback{1, rig.first.weights_hash};
  rig.assign(third);
  CHECK(rig.in_service == 3);
  CHECK(rig.state.serving.previous->manifest.version == 1);
  rig.step(event::ActiveModelFailed{3, "broken"});
  CHECK(rig.in_service == 1);
  CHECK(rig.noticed("fell_back", "yes"));
}

TEST_CASE("a newer assignment replaces the one that is being fetched", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.answers_fetch = false;
  rig.assign(rig.second);
  REQUIRE(rig.state.transfers.in_flight == content_of(200));
  rig.clear();
  rig.answers_fetch = true;
  rig.assign(rig.third);
  CHECK(rig.in_service == 3);
  const auto dropped = rig.done_of<effect::DropContent>();
  REQUIRE(dropped.size() == 1);
  CHECK(dropped[0].content == content_of(200));
  CHECK(rig.state.serving.previous->manifest.version == 1);
  CHECK(rig.blobs == referenced_contents(rig.state));
}

TEST_CASE("a newer assignment waits for the trial under way, and then has the last word", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.activates = false;
  rig.assign(rig.second);
  rig.clear();
  rig.assign(rig.third);
  CHECK(rig.done_of<effect::Activate>().empty());
  rig.activates = true;
  SECTION("it succeeds") { rig.step(event::ActivationDone{2}); }
  SECTION("it fails") { rig.fail_trial(2, Reason::known_answers_wrong); }
  CHECK(rig.in_service == 3);
  CHECK(rig.state.serving.active->manifest.version == 3);
  CHECK(rig.blobs == referenced_contents(rig.state));
}

TEST_CASE("the model in service fails while the next is tried: the next still wins", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  rig.activates = false;
  rig.assign(rig.third);
  rig.clear();
  rig.step(event::ActiveModelFailed{2, "broken"});
  const auto first = rig.done_of<effect::Activate>();
  REQUIRE(first.size() == 1);
  CHECK(first[0].manifest.version == 1);
  // The driver answers in order: first the trial, then the restoration, which it carried out after it.
  rig.activates = true;
  rig.step(event::ActivationDone{3});
  rig.step(event::ActivationDone{1});
  CHECK(rig.done_of<effect::Activate>().back().manifest.version == 3);
  CHECK(rig.in_service == 3);
  CHECK(rig.state.serving.service == Service::loaded);
  CHECK(rig.state.serving.active->manifest.version == 3);
}

TEST_CASE("a fetch that fails is tried again later, after a reconnect at once", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.answers_fetch = false;
  rig.assign(rig.first);
  REQUIRE(rig.done_of<effect::Fetch>().size() == 1);
  const ContentId release = rig.model.content;
  SECTION("missing at the coordinator for a while") {
    for (const std::chrono::seconds wait : {1s, 2s, 4s}) {
      rig.step(event::ContentFailed{release, {Errc::not_found, "not here"}});
      rig.clear();
      rig.advance(wait - 1ms);
      CHECK(rig.done_of<effect::Fetch>().empty());
      rig.advance(1ms);
      CHECK(rig.done_of<effect::Fetch>().size() == 1);
    }
  }
  SECTION("cut off") {
    rig.clear();
    rig.step(event::ContentFailed{release, {Errc::disconnected, "gone"}});
    rig.lose_connection();
    CHECK(rig.done_of<effect::Fetch>().empty());
    rig.advance(1s);
    REQUIRE(rig.online());
    CHECK(rig.done_of<effect::Fetch>().size() == 1);
  }
  SECTION("cut off without a word on the fetch") {
    rig.clear();
    rig.lose_connection();
    rig.advance(1s);
    CHECK(rig.done_of<effect::Fetch>().size() == 1);
  }
  SECTION("longer than its manifest says: for good") {
    rig.step(event::ContentFailed{release, {Errc::too_large, "17 MiB"}});
    CHECK_FALSE(rig.state.serving.pending);
    CHECK(rig.sent_of<message::Activation>().back().outcome == Reason::too_large);
    return;
  }
  rig.answers_fetch = true;
  rig.blobs.insert(release);
  rig.step(event::ContentReceived{release, rig.model.bytes});
  rig.advance(5s);
  CHECK(rig.in_service == 1);
}

TEST_CASE("content that was complete before a crash needs no network after it", "[node][serving]") {
  Fleet fleet;
  Served rig(fleet);
  rig.activates = false;
  rig.assign(rig.first);
  REQUIRE(rig.done_of<effect::Activate>().size() == 1);
  rig.crash();
  rig.activates = true;
  rig.answers_connect = false;
  rig.boot();
  rig.run();
  CHECK(rig.in_service == 1);
}
