#include <cmath>

#include "coordinator/work/publication.h"
#include "models/package/version.h"
#include "protocol/codec/mixed.h"
#include "tests/catch.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::coordinator;
using rivulet::testing::Blobs;
using rivulet::testing::key_of_byte;
using rivulet::testing::small_release;

namespace {

using Floats = std::vector<float>;

const SecretKey& coordinator_key() {
  static const SecretKey key = key_of_byte(4);
  return key;
}

/// The disk changes the lowest bit of the last float: a number as good as before, but another one.
void damage(Blobs& blobs, const ContentId& content) {
  Bytes bytes = blobs.store->read_all(content).value();
  bytes[bytes.size() - 4] ^= std::byte{1};
  REQUIRE(blobs.store->erase(content));
  REQUIRE(blobs.store->put(content, bytes));
}

/// A round over two parameters and a statistic, with w_0 = (0, -2, 0) and the parent's master (1, 2, 10).
struct RoundOfTwo {
  Blobs blobs;
  Release release = small_release(blobs);
  effect::Aggregate task;

  RoundOfTwo() {
    release.layout.tensors = {{"weight", {1, 2}, TensorKind::parameter},
                              {"mean", {1}, TensorKind::statistic}};
    release.initial_weights = blobs.put_floats({0, -2, 0});
    task.round = 7;
    task.attempt = 1;
    task.release.bytes[0] = std::byte{5};
    task.release_content.bytes[0] = std::byte{6};
    task.parent = 3;
    task.parent_weights_hash.bytes[0] = std::byte{8};
    task.parent_master = blobs.put_floats({1, 2, 10});
    // (1 * 1 * 1 + 3 * 0.5 * 2) / 4 = 1 and (0 + 3 * 0.5 * 4) / 4 = 1.5; no scale touches the statistic:
    // (1 * 4 + 3 * 8) / 4 = 7.
    add(1, {1, 0, 4}, 1, 1);
    add(2, {2, 4, 8}, 3, 0.5);
  }

  void add(unsigned char id, const Floats& delta, double weight, double scale) {
    Rng rng(1);
    const auto statistics = ranges_of(release.layout, TensorKind::statistic);
    const Bytes wire = encode_mixed(Codec::fp32, delta, statistics, rng).value();
    SealedEntry entry;
    entry.task.bytes[0] = std::byte{id};
    entry.content = blobs.put(wire);
    entry.content_bytes = wire.size();
    entry.weight = weight;
    entry.scale = scale;
    task.entries.push_back(entry);
  }
  Result<CandidateBuilt> build(std::size_t threads = 1) {
    return build_candidate(task, release, coordinator_key(), threads, *blobs.store);
  }
  Floats floats(const ContentId& content) {
    return read_weights(*blobs.store, content, release.layout).value();
  }
  /// The build fails with these words, and leaves the store as it was.
  void check_failure(const std::string& words) {
    const auto before = blobs.contents();
    const auto built = build();
    REQUIRE_FALSE(built);
    CAPTURE(built.error().detail);
    CHECK(built.error().detail.find(words) != std::string::npos);
    CHECK(blobs.contents() == before);
  }
};

}  // namespace

TEST_CASE("a candidate is the parent's master after the weighted mean step",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  SECTION("with the server's rate 1 it is FedAvg") {
    const auto built = round.build();
    REQUIRE(built);
    CHECK(round.floats(built->master) == Floats{2, 3.5F, 17});
  }
  SECTION("the server's rate scales the step of parameters, and never that of statistics") {
    round.task.aggregation.server_learning_rate = 2;
    const auto built = round.build();
    REQUIRE(built);
    CHECK(round.floats(built->master) == Floats{3, 5, 17});
  }
}

TEST_CASE("a variance stays at 0 or above, a mean may fall below it", "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.task.entries.clear();
  round.add(1, {0, 0, -30}, 1, 1);
  CHECK(round.floats(round.build()->master) == Floats{1, 2, -20});
  round.release.layout.tensors.back().name = "bn.running_var";
  CHECK(round.floats(round.build()->master) == Floats{1, 2, 0});
}

TEST_CASE("what nodes get is the snapshot, with its hash and its distance from w_0",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.task.aggregation.server_learning_rate = 2;
  round.release.initial_weights = round.blobs.put_floats({0, 1, 0});
  const auto built = round.build(3);
  REQUIRE(built);
  CHECK(built->form == SnapshotForm::fp32);
  // (3, 5, 17) as float32.
  CHECK(to_hex(round.blobs.store->read_all(built->snapshot).value()) ==
        "00004040"
        "0000a040"
        "00008841");
  CHECK(built->snapshot_bytes == 12);
  CHECK(built->weights_hash == weights_hash_of(Floats{3, 5, 17}));
  CHECK(built->distance == 5.0);  // (3, 5) from (0, 1): the statistic's 17 is no distance.
  CHECK(built->optimizer_state.is_zero());
}

TEST_CASE("what an int8 snapshot loses stays in the master", "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.release.snapshot = SnapshotForm::int8;
  round.release.initial_weights = round.blobs.put_floats({0, 0, 0});
  round.task.parent_master = round.blobs.put_floats({126, -1.125F, 10});
  const auto built = round.build();
  REQUIRE(built);
  // (126, -1.125) + (1, 1.5) = (127, 0.375): with the scale 127 / 127 = 1 the nodes get (127, 0).
  CHECK(round.floats(built->master) == Floats{127, 0.375F, 17});
  CHECK(to_hex(round.blobs.store->read_all(built->snapshot).value()) ==
        "803f"
        "7f00"
        "00008841");
  CHECK(built->weights_hash == weights_hash_of(Floats{127, 0, 17}));
  CHECK(built->distance == 127.0);
}

TEST_CASE("nodes get pruned weights, the master stays dense, and a weight comes back",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.release.snapshot = SnapshotForm::sparse_fp32;
  round.task.sparsity = 0.5;
  const auto built = round.build();
  REQUIRE(built);
  // (1, 2) + (1, 1.5) = (2, 3.5): the smaller of the two goes, and only from what travels.
  CHECK(round.floats(built->master) == Floats{2, 3.5F, 17});
  CHECK(built->form == SnapshotForm::sparse_fp32);
  // Under a bitmap 3.5, dense the statistic 17, which is never pruned.
  CHECK(to_hex(round.blobs.store->read_all(built->snapshot).value()) ==
        "0102"
        "00006040"
        "00"
        "00008841");
  CHECK(built->snapshot_bytes == 11);
  CHECK(built->weights_hash == weights_hash_of(Floats{0, 3.5F, 17}));
  CHECK(built->distance == 5.5);  // (0, 3.5) from (0, -2): of what travels.

  // The nodes trained on from (0, 3.5), and what they add counts from the master's 2.
  round.task.parent_master = built->master;
  round.task.entries.clear();
  round.add(1, {4, -0.5F, 0}, 1, 1);
  const auto next = round.build();
  REQUIRE(next);
  CHECK(round.floats(next->master) == Floats{6, 3, 17});
  CHECK(next->weights_hash == weights_hash_of(Floats{6, 0, 17}));
}

TEST_CASE("an int8 snapshot of pruned weights has the scales of those that are left",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.release.snapshot = SnapshotForm::sparse_int8;
  round.task.parent_master = round.blobs.put_floats({126, -1.125F, 10});
  round.task.sparsity = 0.5;
  const auto built = round.build();
  REQUIRE(built);
  CHECK(round.floats(built->master) == Floats{127, 0.375F, 17});
  // Two entries are as short dense as under a bitmap.
  CHECK(to_hex(round.blobs.store->read_all(built->snapshot).value()) ==
        "803f"
        "007f00"
        "0000008841");
  CHECK(built->weights_hash == weights_hash_of(Floats{127, 0, 17}));
}

TEST_CASE("the coordinator signs what it built as a candidate, and as nothing else",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  const auto built = round.build();
  REQUIRE(built);
  CHECK(verify_envelope(coordinator_key().public_key(), Context::candidate, built->manifest));
  CHECK_FALSE(verify_envelope(coordinator_key().public_key(), Context::version, built->manifest));
  const auto manifest = decode_candidate(built->manifest.payload);
  REQUIRE(manifest);
  CHECK(manifest->fleet == round.release.fleet);
  CHECK(manifest->round == 7);
  CHECK(manifest->release == round.task.release);
  CHECK(manifest->release_content == round.task.release_content);
  CHECK(manifest->parent == 3);
  CHECK(manifest->parent_weights_hash == round.task.parent_weights_hash);
  CHECK(manifest->form == SnapshotForm::fp32);
  CHECK(manifest->snapshot == built->snapshot);
  CHECK(manifest->snapshot_bytes == built->snapshot_bytes);
  CHECK(manifest->weights_hash == built->weights_hash);
}

TEST_CASE("the order of updates and the number of threads change nothing",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.add(3, {0.1F, -0.7F, 0.3F}, 2, 0.3);
  const auto one = round.build(1);
  std::reverse(round.task.entries.begin(), round.task.entries.end());
  const auto four = round.build(4);
  REQUIRE(one);
  REQUIRE(four);
  CHECK(*one == *four);
}

TEST_CASE("a candidate that cannot be built says what is missing, and stores nothing",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  const std::string second = "update " + round.task.entries[1].task.hex();
  SECTION("an update's content") {
    REQUIRE(round.blobs.store->erase(round.task.entries[1].content));
    round.check_failure(second);
  }
  SECTION("an update in a codec that nobody knows") {
    round.task.entries[1].codec = 9;
    round.check_failure(second);
  }
  SECTION("an update that was damaged after it was accepted") {
    round.task.entries[1].content = round.blobs.put_hex(
        "0300000000000000"
        "0c000000"
        "0000803f"
        "0000c07f"
        "0000803f");
    round.check_failure(second);
  }
  SECTION("an update of another model") {
    round.task.entries[1].content = round.blobs.put_hex(
        "0200000000000000"
        "08000000"
        "0000803f"
        "0000803f");
    round.task.entries[1].content_bytes = 20;
    round.check_failure(second);
  }
  SECTION("updates as they came in") {
    const std::size_t at = GENERATE(0, 1);
    damage(round.blobs, round.task.entries[at].content);
    round.check_failure("update " + round.task.entries[at].task.hex() + ": content " +
                        round.task.entries[at].content.hex());
  }
  SECTION("the parent's master as it was stored") {
    damage(round.blobs, round.task.parent_master);
    round.check_failure("the parent's master: content " + round.task.parent_master.hex());
  }
  SECTION("the release's first weights as they were stored") {
    damage(round.blobs, round.release.initial_weights);
    round.check_failure("the release's first weights: content " + round.release.initial_weights.hex());
  }
  SECTION("the parent's master") {
    REQUIRE(round.blobs.store->erase(round.task.parent_master));
    round.check_failure("the parent's master: ");
  }
  SECTION("a parent's master of another model") {
    round.task.parent_master = round.blobs.put_floats({1, 2});
    round.check_failure("the parent's master: ");
  }
  SECTION("the release's first weights") {
    REQUIRE(round.blobs.store->erase(round.release.initial_weights));
    round.check_failure("the release's first weights: ");
  }
  SECTION("updates at all") {
    round.task.entries.clear();
    round.check_failure("this rule needs 1");
  }
  SECTION("a finite step") {
    round.task.parent_master = round.blobs.put_floats({3e38F, 0, 0});
    round.task.aggregation.server_learning_rate = 3e38;
    round.check_failure("finite");
  }
}

TEST_CASE("a full store fails the candidate with the code that makes the core wait for room",
          "[coordinator][work][aggregation]") {
  RoundOfTwo round;
  round.blobs.disk.fail_next_blob_write(Errc::storage_full);
  const auto built = round.build();
  REQUIRE_FALSE(built);
  CHECK(built.error().code == Errc::storage_full);
  CHECK(round.build());
}

TEST_CASE("weights are read only if they have the layout's length and are finite",
          "[coordinator][work][aggregation]") {
  Blobs blobs;
  const ParameterLayout layout{{{"weight", {2}, TensorKind::parameter}}};
  const auto stored = store_weights(*blobs.store, Floats{1, -2});
  REQUIRE(stored);
  CHECK(to_hex(blobs.store->read_all(*stored).value()) ==
        "0000803f"
        "000000c0");
  CHECK(read_weights(*blobs.store, *stored, layout).value() == Floats{1, -2});
  CHECK(read_weights(*blobs.store, blobs.put_floats({1}), layout).error().code == Errc::corrupt);
  CHECK(read_weights(*blobs.store, blobs.put_floats({1, 2, 3}), layout).error().code == Errc::corrupt);
  CHECK(read_weights(*blobs.store, blobs.put_floats({1, NAN}), layout).error().code == Errc::corrupt);
  CHECK(read_weights(*blobs.store, ContentId{}, layout).error().code == Errc::not_found);
}
