#include <cmath>

#include "node/work/tasks.h"
#include "sim/world/toy_model.h"
#include "tests/catch.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::node;
using rivulet::testing::Blobs;
using rivulet::testing::manifest_of;
using rivulet::testing::put_release;
using rivulet::testing::small_release;

using Floats = std::vector<float>;

TEST_CASE("a release is read back as it was signed", "[node][work]") {
  Blobs blobs;
  const Release release = small_release(blobs);
  const auto loaded = load_release(*blobs.store, put_release(blobs, release));
  REQUIRE(loaded);
  CHECK(*loaded == release);
}

TEST_CASE("what is no release is told from one that is not there", "[node][work]") {
  Blobs blobs;
  CHECK(load_release(*blobs.store, ContentId{}).error().code == Errc::not_found);
  CHECK(load_release(*blobs.store, blobs.put(bytes_of("rubbish"))).error().code == Errc::corrupt);
  const auto key = testing::key_of_byte(3);
  const auto other = blobs.put(encode(seal(key, Context::release, copy_of(bytes_of("rubbish")))));
  CHECK(load_release(*blobs.store, other).error().code == Errc::corrupt);
}

TEST_CASE("weights are those of the snapshot if they have the hash that was signed", "[node][work]") {
  Blobs blobs;
  const Release release = small_release(blobs);
  const Floats weights = {1, 2, 3, 4, 5, 6};
  const auto snapshot = blobs.put_floats(weights);
  CHECK(load_weights(*blobs.store, release, SnapshotForm::fp32, snapshot, weights_hash_of(weights)).value() ==
        weights);

  const auto check_corrupt = [&](SnapshotForm form, const ContentId& content, const Digest& hash,
                                 const char* words) {
    const auto refused = load_weights(*blobs.store, release, form, content, hash);
    REQUIRE_FALSE(refused);
    CAPTURE(refused.error().detail);
    CHECK(refused.error().reason == Reason::corrupt_content);
    CHECK(refused.error().detail.find(words) != std::string::npos);
  };
  const Digest right = weights_hash_of(weights);
  check_corrupt(SnapshotForm::fp32, snapshot, weights_hash_of(Floats{1, 2, 3, 4, 5, 7}), "hash");
  check_corrupt(SnapshotForm::int8, snapshot, right, "24 bytes; the layout asks for 16");
  check_corrupt(SnapshotForm::fp32, blobs.put_floats({1, 2, 3}), right, "12 bytes; the layout asks for 24");
  const Floats infinite = {1, 2, 3, 4, 5, INFINITY};
  check_corrupt(SnapshotForm::fp32, blobs.put_floats(infinite), weights_hash_of(infinite), "not finite");

  CHECK(load_weights(*blobs.store, release, SnapshotForm::fp32, ContentId{}, right).error().code ==
        Errc::not_found);
}

TEST_CASE("an int8 snapshot is bound by the hash of what it decodes to", "[node][work]") {
  Blobs blobs;
  const Release release = small_release(blobs);
  // The scales 0.125 and 0.5 in bfloat16, the steps 127, -4 and 3, 127, then the bias 1, -1.
  const auto snapshot = blobs.put_hex(
      "003e"
      "003f"
      "7ffc"
      "037f"
      "0000803f"
      "000080bf");
  const Floats decoded = {15.875F, -0.5F, 1.5F, 63.5F, 1, -1};
  CHECK(load_weights(*blobs.store, release, SnapshotForm::int8, snapshot, weights_hash_of(decoded)).value() ==
        decoded);
}

TEST_CASE("no version leads further from the first weights than the release allows", "[node][work]") {
  Blobs blobs;
  const Floats first = {1, 1, 0, 0, 0, 0}, near = {4, 5, 0, 0, 0, 0};  // 3 and 4 apart, so 5 together.
  Release release = small_release(blobs, first);
  const auto load = [&](const Floats& weights) {
    return load_weights(*blobs.store, release, SnapshotForm::fp32, blobs.put_floats(weights),
                        weights_hash_of(weights));
  };
  release.limits.max_distance = 5;
  CHECK(load(near));
  release.limits.max_distance = std::nextafter(5.0, 0.0);
  const auto refused = load(near);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::refused);
  CHECK(refused.error().reason == Reason::corrupt_content);
  CHECK(refused.error().detail.find("the weights are 5 from w_0") != std::string::npos);

  // Statistics have no bound.
  release.layout.tensors = {{"0.weight", {2, 2}, TensorKind::parameter},
                            {"mean", {2}, TensorKind::statistic}};
  CHECK(load({1, 1, 0, 0, 1e6F, -1e6F}));

  // A w_0 that the disk has changed a little binds as little as none.
  const Floats moved = {1, 1, 0, 0, 0, 1e-6F};
  REQUIRE(blobs.store->erase(release.initial_weights));
  REQUIRE(blobs.store->put(release.initial_weights, std::as_bytes(std::span(moved))));
  CHECK(load(first).error().reason == Reason::corrupt_content);

  // Without w_0 nothing can be bound, so nothing is taken.
  REQUIRE(blobs.store->erase(release.initial_weights));
  const auto unbound = load({1, 1, 0, 0, 0, 1});
  REQUIRE_FALSE(unbound);
  CHECK(unbound.error().code == Errc::not_found);
  release.initial_weights = blobs.put_floats({1, 1});
  const auto misfit = load({1, 1, 0, 0, 0, 1});
  REQUIRE_FALSE(misfit);
  CHECK(misfit.error().reason == Reason::corrupt_content);
}

namespace {

/// A training task on a small model, and what the disk does to its contents.
struct Stored {
  Blobs blobs;
  Release release = small_release(blobs);
  VersionManifest manifest = manifest_of(blobs, release, {1, 2, 3, 4, 5, 6});
  CandidateManifest candidate;

  Stored() { candidate.snapshot = blobs.put_floats({6, 5, 4, 3, 2, 1}); }
  void damage(const ContentId& content) {
    Bytes bytes = blobs.store->read_all(content).value();
    bytes[bytes.size() / 2] ^= std::byte{1};
    REQUIRE(blobs.store->erase(content));
    REQUIRE(blobs.store->put(content, bytes));
  }
  std::vector<ContentId> damaged() { return damaged_contents(*blobs.store, manifest, &candidate); }
};

}  // namespace

TEST_CASE("contents that are not what their ids say are told from those that are", "[node][work]") {
  Stored stored;
  CHECK(stored.damaged().empty());
  for (const ContentId& content : {stored.manifest.release_content, stored.manifest.snapshot,
                                   stored.release.initial_weights, stored.candidate.snapshot}) {
    Stored other;
    other.damage(content);
    CHECK(other.damaged() == std::vector{content});
    Stored third;
    REQUIRE(third.blobs.store->erase(content));
    CHECK(third.damaged() == std::vector{content});
  }
  // Whole contents of a manifest that lies are no damage: they would come the same again.
  stored.manifest.weights_hash = Digest{};
  CHECK(stored.damaged().empty());
}

TEST_CASE("one bit of the release, the snapshot or w_0 is enough for a task to name it", "[node][work]") {
  Stored whole;
  for (const ContentId& content :
       {whole.manifest.release_content, whole.manifest.snapshot, whole.release.initial_weights}) {
    Stored stored;
    stored.damage(content);
    sim::ToyEngine engine({2, {1, 0}, {0}}, {2, {0, 1}, {1}});
    effect::Train training;
    training.base = stored.manifest;
    const std::atomic<bool> stop = false;
    const auto trained = run_training(training, *stored.blobs.store, engine, stop);
    REQUIRE(trained);
    REQUIRE(std::holds_alternative<event::TaskFailed>(*trained));
    CHECK(std::get<event::TaskFailed>(*trained).damaged == std::vector{content});

    effect::Evaluate evaluation;
    evaluation.parent = stored.manifest;
    evaluation.candidate = stored.candidate;
    const Event judged = run_evaluation(evaluation, *stored.blobs.store, engine).value();
    REQUIRE(std::holds_alternative<event::TaskFailed>(judged));
    CHECK(std::get<event::TaskFailed>(judged).damaged == std::vector{content});
  }
}

TEST_CASE("a disk that fails is told as such, whatever a task was about", "[node][work]") {
  CHECK(reason_of({Errc::storage, ""}, Reason::not_loadable) == Reason::storage_failed);
  CHECK(reason_of({Errc::storage_full, "", Reason::corrupt_content}, Reason::not_loadable) ==
        Reason::storage_full);
  CHECK(reason_of({Errc::refused, "", Reason::corrupt_content}, Reason::not_loadable) ==
        Reason::corrupt_content);
  CHECK(reason_of({Errc::refused, ""}, Reason::not_loadable) == Reason::not_loadable);
}
