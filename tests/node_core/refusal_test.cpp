#include <functional>

#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

/// A node that serves version 1 by manifest 5, under a release of epoch 1.
struct Settled : Rig {
  explicit Settled(Fleet& the_fleet) : Rig(the_fleet) {
    serve(model, first);
    boot();
    run();
    hear(message::Assignment{fleet.sealed(first)});
    REQUIRE(in_service == 1);
    clear();
  }
  Model model = fleet.model();
  VersionManifest first = fleet.manifest(model, 5, 1);
};

/// One way in which a manifest of version 2 is bad.
struct Attack {
  const char* name;
  const char* words;  ///< In the notice.
  bool told;          ///< The coordinator is told, since it signed the manifest.
  std::function<Envelope(Settled&)> make;
};

VersionManifest second_of(Settled& rig) {
  VersionManifest manifest = rig.fleet.manifest(rig.model, 6, 2);
  rig.serve(rig.model, manifest);
  return manifest;
}

Envelope with_release(Settled& rig, const Release& release, const SecretKey& signer) {
  const Model model = rig.fleet.model(release, signer);
  const VersionManifest manifest = rig.fleet.manifest(model, 6, 2);
  rig.serve(model, manifest);
  return rig.fleet.sealed(manifest);
}

std::vector<Attack> attacks() {
  return {
      {"signed by another key", "is not by key", false,
       [](Settled& rig) { return seal(key_of(9), Context::version, encode(second_of(rig))); }},
      {"signed by the release key", "is not by key", false,
       [](Settled& rig) { return seal(rig.fleet.release_key, Context::version, encode(second_of(rig))); }},
      {"a candidate", "is not by key", false,
       [](Settled& rig) { return rig.fleet.sealed(rig.fleet.candidate(rig.first, 2)); }},
      {"a candidate's payload in the context of versions", "", false,
       [](Settled& rig) {
         return seal(rig.fleet.coordinator, Context::version, encode(rig.fleet.candidate(rig.first, 2)));
       }},
      {"a version in the context of candidates", "is not by key", false,
       [](Settled& rig) { return seal(rig.fleet.coordinator, Context::candidate, encode(second_of(rig))); }},
      {"changed after it was signed", "is not by key", false,
       [](Settled& rig) {
         Envelope envelope = rig.fleet.sealed(second_of(rig));
         envelope.payload.back() ^= std::byte{1};
         return envelope;
       }},
      {"garbage under a good signature", "", false,
       [](Settled& rig) {
         return seal(rig.fleet.coordinator, Context::version, Bytes(64, std::byte{0x5a}));
       }},
      {"of another fleet", "another fleet", false,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.fleet.bytes[0] = std::byte{8};
         return rig.fleet.sealed(manifest);
       }},
      {"an old manifest replayed", "rolled back", false,
       [](Settled& rig) { return rig.fleet.sealed(rig.fleet.manifest(rig.model, 4, 2)); }},
      {"of an epoch below the release's", "epoch", false,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.epoch = 0;
         return rig.fleet.sealed(manifest);
       }},
      {"larger than is ever fetched", "weights_bytes_max", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.snapshot_bytes = rig.config.model_bytes_max + 1;
         return rig.fleet.sealed(manifest);
       }},
      {"with a snapshot of a size that the release's layout does not have", "by its release", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.snapshot_bytes = Fleet::int8_bytes + 1;
         return rig.fleet.sealed(manifest);
       }},
      {"with a sparse snapshot that is longer than any of its layout", "at most 32 by its release", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.form = SnapshotForm::sparse_int8;
         manifest.snapshot_bytes = Fleet::int8_bytes + 3;  // Two tensors, a byte more each.
         return rig.fleet.sealed(manifest);
       }},
      {"with a sparse variant that is longer than any of its layout", "at most 32 by its release", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.form = SnapshotForm::sparse_int8;
         manifest.snapshot_bytes = 20;
         manifest.variants[0].bytes = Fleet::int8_bytes + 3;
         return rig.fleet.sealed(manifest);
       }},
      {"with a variant of a wrong size", "by its release", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.variants[0].bytes = 1 << 20;
         return rig.fleet.sealed(manifest);
       }},
      {"with no variant that is served here", "offers neither", true,
       [](Settled& rig) {
         VersionManifest manifest = second_of(rig);
         manifest.variants.clear();
         return rig.fleet.sealed(manifest);
       }},
      {"with a variant that the release does not allow", "allows no variant", true,
       [](Settled& rig) {
         Release release = rig.fleet.release();
         release.recipes = {"fp32"};
         return with_release(rig, release, rig.fleet.release_key);
       }},
      {"of a release by an unknown key", "none of the fleet's release keys", true,
       [](Settled& rig) { return with_release(rig, rig.fleet.release(2), key_of(9)); }},
      {"of a release by the coordinator's key", "none of the fleet's release keys", true,
       [](Settled& rig) { return with_release(rig, rig.fleet.release(2), rig.fleet.coordinator); }},
      {"of another fleet's release", "another fleet", true,
       [](Settled& rig) {
         Release release = rig.fleet.release();
         release.fleet.bytes[0] = std::byte{8};
         return with_release(rig, release, rig.fleet.release_key);
       }},
      {"of an expired release", "expired", true,
       [](Settled& rig) {
         Release release = rig.fleet.release();
         release.limits.expires = today - 1s;
         return with_release(rig, release, rig.fleet.release_key);
       }},
      {"of a release whose content is another release", "not the release that the manifest names", true,
       [](Settled& rig) {
         const Model other = rig.fleet.model(rig.fleet.release(2), rig.fleet.release_key);
         VersionManifest manifest = rig.fleet.manifest(rig.model, 6, 2);
         rig.serve(other, manifest);
         manifest.release_content = other.content;
         return rig.fleet.sealed(manifest);
       }},
  };
}

}  // namespace

TEST_CASE("no bad manifest is ever served, whichever way it is bad", "[node][refusal]") {
  for (const Attack& attack : attacks()) {
    INFO("a manifest " << attack.name);
    Fleet fleet;
    Settled rig(fleet);
    rig.hear(message::Assignment{attack.make(rig)});
    CHECK(rig.done_of<effect::Activate>().empty());
    CHECK(rig.in_service == 1);
    CHECK(rig.state.serving.active->manifest.version == 1);
    CHECK_FALSE(rig.state.serving.pending);
    CHECK_FALSE(rig.durable.contains({"manifests", copy_of(bytes_of("pending"))}));
    CHECK(rig.noticed("assignment_refused", attack.words));
    const auto told = rig.sent_of<message::Activation>();
    CHECK(told.size() == (attack.told ? 1 : 0));
    if (!told.empty()) {
      CHECK(told[0].version == 2);
      CHECK(told[0].manifest_version == 6);
      CHECK((told[0].outcome == Reason::bad_manifest || told[0].outcome == Reason::too_large));
    }
    // What was fetched for it is gone, and the good one that follows is taken.
    CHECK(rig.blobs == referenced_contents(rig.state));
    const VersionManifest good = fleet.manifest(rig.model, 7, 2);
    rig.serve(rig.model, good);
    rig.hear(message::Assignment{fleet.sealed(good)});
    CHECK(rig.in_service == 2);
  }
}

TEST_CASE("no task is done from a bad manifest, whichever way it is bad", "[node][refusal]") {
  for (const Attack& attack : attacks()) {
    const std::string name = attack.name;
    // These are about serving: training neither counts manifests nor loads variants.
    if (name.find("variant") != std::string::npos || name.find("replayed") != std::string::npos) continue;
    INFO("a task whose base is " << name);
    for (const bool evaluate : {false, true}) {
      Fleet fleet;
      Settled rig(fleet);
      message::Task task = evaluate ? fleet.evaluation(1, rig.first) : fleet.training(1, rig.first);
      task.base = attack.make(rig);
      const auto base = decode_version(task.base.payload);
      if (evaluate && base) {
        const CandidateManifest candidate = fleet.candidate(*base, 1);
        rig.library[candidate.snapshot] = {};
        task.candidate = fleet.sealed(candidate);
      }
      rig.hear(task);
      CHECK(rig.done_of<effect::Train>().empty());
      CHECK(rig.done_of<effect::Evaluate>().empty());
      CHECK(rig.state.tasks.empty());
      CHECK((rig.noticed("task_refused", attack.words) || rig.noticed("task_ended", attack.words)));
      REQUIRE(rig.sent_of<message::Declined>().size() == 1);
      CHECK(rig.sent_of<message::Declined>()[0].task == task_id(1));
      CHECK(rig.in_service == 1);
      CHECK(rig.blobs == referenced_contents(rig.state));
    }
  }
}

TEST_CASE("no candidate is scored that is not this round's, of this parent", "[node][refusal]") {
  Fleet fleet;
  Settled rig(fleet);
  CandidateManifest candidate = fleet.candidate(rig.first, 1);
  Context context = Context::candidate;
  const SecretKey* signer = &fleet.coordinator;
  const SecretKey stranger = key_of(9);
  std::string words;
  SECTION("of another round") {
    candidate.round = 2;
    words = "of round 2";
  }
  SECTION("of another parent") {
    candidate.parent = 7;
    words = "parent";
  }
  SECTION("of other weights of that parent") {
    candidate.parent_weights_hash.bytes[5] = std::byte{1};
    words = "parent";
  }
  SECTION("of another release") {
    candidate.release.bytes[0] ^= std::byte{1};
    words = "another release";
  }
  SECTION("of another fleet") {
    candidate.fleet.bytes[0] = std::byte{8};
    words = "another fleet";
  }
  SECTION("in the context of versions") {
    context = Context::version;
    words = "is not by key";
  }
  SECTION("by another key") {
    signer = &stranger;
    words = "is not by key";
  }
  SECTION("too large") {
    candidate.snapshot_bytes = rig.config.model_bytes_max + 1;
    words = "weights_bytes_max";
  }
  SECTION("of a size that the layout does not have") {
    candidate.snapshot_bytes = 40;
    words = "by its release";
  }
  message::Task task = fleet.evaluation(1, rig.first);
  task.candidate = seal(*signer, context, encode(candidate));
  rig.hear(task);
  CHECK(rig.done_of<effect::Evaluate>().empty());
  CHECK((rig.noticed("task_refused", words) || rig.noticed("task_ended", words)));
  REQUIRE(rig.sent_of<message::Declined>().size() == 1);
  CHECK(rig.sent_of<message::Declined>()[0].reason == Reason::bad_manifest);
  CHECK_FALSE(rig.blobs.contains(candidate.snapshot));
}

TEST_CASE("a training plan out of its mind is refused", "[node][refusal]") {
  Fleet fleet;
  Settled rig(fleet);
  message::Task task = fleet.training(1, rig.first);
  message::TrainingPlan& plan = task.training;
  Reason reason = Reason::bad_plan;
  SECTION("no epoch") { plan.epochs = 0; }
  SECTION("a million epochs") { plan.epochs = 1'000'000; }
  SECTION("no batch") { plan.batch_size = 0; }
  SECTION("a batch that takes too much memory") { plan.batch_size = 4097; }
  SECTION("a negative learning rate") { plan.learning_rate = -0.1; }
  SECTION("an infinite learning rate") { plan.learning_rate = std::numeric_limits<double>::infinity(); }
  SECTION("a proximal term that is no number") {
    plan.proximal_mu = std::numeric_limits<double>::quiet_NaN();
  }
  SECTION("an unknown codec") { plan.codec = 77; }
  SECTION("an unknown optimizer") { plan.optimizer = 9; }
  SECTION("a deadline that has passed") {
    task.remaining_ms = 0;
    reason = Reason::too_late;
  }
  rig.hear(task);
  CHECK(rig.noticed("task_refused"));
  REQUIRE(rig.sent_of<message::Declined>().size() == 1);
  CHECK(rig.sent_of<message::Declined>()[0].reason == reason);
  CHECK(rig.done_of<effect::Train>().empty());
}

TEST_CASE("the largest batch and the most epochs that are allowed are trained with", "[node][refusal]") {
  Fleet fleet;
  Settled rig(fleet);
  message::Task task = fleet.training(1, rig.first);
  task.training.batch_size = 4096;
  task.training.epochs = 10'000;
  rig.hear(task);
  CHECK(rig.done_of<effect::Train>().size() == 1);
}

TEST_CASE("a release of a higher epoch ends every manifest of a lower one", "[node][refusal]") {
  Fleet fleet;
  Settled rig(fleet);
  const Model raised = fleet.model(3);
  const VersionManifest next = fleet.manifest(raised, 6, 2);
  rig.serve(raised, next);
  rig.hear(message::Assignment{fleet.sealed(next)});
  REQUIRE(rig.in_service == 2);
  rig.clear();
  rig.hear(message::Assignment{fleet.sealed(fleet.manifest(rig.model, 7, 3))});
  CHECK(rig.noticed("assignment_refused", "epoch"));
  rig.crash();
  rig.boot();
  rig.run();
  rig.hear(message::Assignment{fleet.sealed(fleet.manifest(rig.model, 8, 3))});
  CHECK(rig.in_service == 2);
}

TEST_CASE("a release key that was withdrawn takes its releases with it, but never what is in service",
          "[node][refusal]") {
  Fleet fleet;
  Settled rig(fleet);
  TrustDocument document = fleet.document(2);
  document.release_keys = {key_of(20).public_key()};
  rig.trust = {{sign_trust(document, fleet.root)}};
  rig.lose_connection();
  rig.advance(2s);
  REQUIRE(rig.online());
  rig.hear(message::Assignment{fleet.sealed(second_of(rig))});
  CHECK(rig.noticed("assignment_refused", "no release key of the fleet any more"));
  CHECK(rig.in_service == 1);
  rig.crash();
  rig.boot();
  rig.run();
  CHECK(rig.in_service == 1);
}

TEST_CASE("expired trust stops new versions and tasks with an alarm, and inference never",
          "[node][refusal][time]") {
  Fleet fleet;
  Settled rig(fleet);
  rig.now.utc = fleet.document().expires;  // The clock jumps while the session lasts.
  rig.hear(message::Assignment{fleet.sealed(second_of(rig))});
  rig.hear(fleet.training(1, rig.first));
  CHECK(rig.noticed("trust_expired"));
  CHECK(rig.noticed("task_refused", "trust has expired"));
  CHECK(rig.sent_of<message::Declined>().at(0).reason == Reason::untrusted);
  CHECK(rig.in_service == 1);
  rig.crash();
  rig.boot();
  rig.run();
  CHECK(rig.in_service == 1);
  CHECK_FALSE(rig.online());
  // Renewed, the same assignment is taken: it was not held against its manifest.
  TrustDocument renewed = fleet.document(2);
  renewed.expires = rig.now.utc + 24h;
  rig.trust = {{sign_trust(renewed, fleet.root)}};
  rig.advance(1min);
  REQUIRE(rig.online());
  rig.hear(message::Assignment{fleet.sealed(second_of(rig))});
  CHECK(rig.in_service == 2);
}
