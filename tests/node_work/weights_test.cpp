#include <cmath>

#include "node/work/tasks.h"
#include "tests/catch.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::node;
using rivulet::testing::Blobs;
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
  check_corrupt(SnapshotForm::int8, snapshot, right, "24 bytes; the layout asks for 20");
  check_corrupt(SnapshotForm::fp32, blobs.put_floats({1, 2, 3}), right, "12 bytes; the layout asks for 24");
  const Floats infinite = {1, 2, 3, 4, 5, INFINITY};
  check_corrupt(SnapshotForm::fp32, blobs.put_floats(infinite), weights_hash_of(infinite), "not finite");

  CHECK(load_weights(*blobs.store, release, SnapshotForm::fp32, ContentId{}, right).error().code ==
        Errc::not_found);
}

TEST_CASE("an int8 snapshot is bound by the hash of what it decodes to", "[node][work]") {
  Blobs blobs;
  const Release release = small_release(blobs);
  // The scales 0.5 and 2, the steps 2, -4 and 3, 0, then the bias 1, -1.
  const auto snapshot = blobs.put_hex(
      "0000003f"
      "00000040"
      "02fc"
      "0300"
      "0000803f"
      "000080bf");
  const Floats decoded = {1, -2, 6, 0, 1, -1};
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
