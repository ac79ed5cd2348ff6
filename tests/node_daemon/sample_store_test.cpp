#include "node/daemon/sample_store.h"

#include <cmath>
#include <limits>
#include <set>

#include "node/daemon/serial_store.h"
#include "node/daemon/steady_calendar.h"
#include "protocol/sha256.h"
#include "storage/memory_disk.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

namespace rivulet::node {
namespace {

const std::vector<std::string> all_families(sample_families.begin(), sample_families.end());
constexpr UtcTime noon{std::chrono::milliseconds(1'700'000'000'000)};

NewSample sample(float value, std::optional<std::string> label = "1", std::string id = {}) {
  return {std::move(id), {value, value + 1, value + 2}, std::move(label)};
}

std::vector<NewSample> many(std::size_t count, std::optional<std::string> label = "1") {
  std::vector<NewSample> samples;
  for (std::size_t i = 0; i < count; ++i) samples.push_back(sample(static_cast<float>(i), label));
  return samples;
}

AddOutcome add(SampleStore& store, const std::vector<NewSample>& samples, UtcTime now = noon) {
  const auto outcome = store.add(samples, now);
  REQUIRE(outcome);
  return *outcome;
}

std::vector<float> firsts(const SampleStore& store, Split split, bool unlabelled = false) {
  std::vector<float> values;
  const auto take = [&](const SampleView& view) {
    values.push_back(view.inputs[0]);
    return true;
  };
  REQUIRE(store.visit(split, take, unlabelled));
  return values;
}

std::vector<float> all_firsts(const SampleStore& store) {
  auto values = firsts(store, Split::training, true);
  const auto holdout = firsts(store, Split::holdout, true);
  values.insert(values.end(), holdout.begin(), holdout.end());
  std::ranges::sort(values);
  return values;
}

struct Rig {
  MemoryDisk disk;
  std::unique_ptr<Store> store = make_memory_store(disk, all_families);

  std::unique_ptr<SampleStore> open(SampleLimits limits = {}) {
    auto samples = SampleStore::open(*store, limits);
    REQUIRE(samples);
    return std::move(*samples);
  }
};

TEST_CASE("the same sample twice is stored once, in one call, in two, and after a restart",
          "[node][samples]") {
  Rig rig;
  {
    const auto samples = rig.open();
    const auto outcome = add(*samples, {sample(1), sample(2), sample(1)});
    CHECK(outcome.stored == 2);
    CHECK(outcome.duplicate == 1);
    CHECK(add(*samples, {sample(2)}).duplicate == 1);
    // An id of its own makes another sample.
    CHECK(add(*samples, {sample(1, "1", "a"), sample(1, "1", "b")}).stored == 2);
    CHECK(add(*samples, {sample(9, "9", "a")}).duplicate == 1);
  }
  const auto again = rig.open();
  CHECK(again->counts().total() == 4);
  CHECK(add(*again, {sample(1), sample(2), sample(3, "1", "b")}).duplicate == 3);
}

TEST_CASE("the holdout is the same after a restart, disjoint from training, and of the size asked for",
          "[node][samples]") {
  const TemporaryFolder folder;
  std::vector<float> training, holdout;
  constexpr std::size_t count = 2000;
  {
    auto store = open_rocksdb_store(folder.path, all_families);
    REQUIRE(store);
    auto samples = SampleStore::open(**store, {});
    REQUIRE(samples);
    add(**samples, many(count));
    training = firsts(**samples, Split::training);
    holdout = firsts(**samples, Split::holdout);
    CHECK((*samples)->counts().training == training.size());
    CHECK((*samples)->counts().holdout == holdout.size());
    REQUIRE((*samples)->sync());
  }
  std::set<float> both(training.begin(), training.end());
  both.insert(holdout.begin(), holdout.end());
  CHECK(both.size() == count);
  CHECK(training.size() + holdout.size() == count);
  // Binomial(2000, 0.2): five standard deviations are 89.
  CHECK(std::abs(static_cast<double>(holdout.size()) - 400) < 90);

  auto store = open_rocksdb_store(folder.path, all_families);
  REQUIRE(store);
  auto samples = SampleStore::open(**store, {});
  REQUIRE(samples);
  CHECK(firsts(**samples, Split::training) == training);
  CHECK(firsts(**samples, Split::holdout) == holdout);
}

TEST_CASE("unlabelled samples are stored and not trained on, until their label comes", "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.holdout_fraction = 0.0});
  add(*samples, {sample(1, std::nullopt, "a"), sample(2, std::nullopt, "b"), sample(3, "3", "c")});
  CHECK(samples->counts().unlabelled == 2);
  CHECK(firsts(*samples, Split::training) == std::vector<float>{3});
  CHECK(firsts(*samples, Split::training, true) == std::vector<float>{1, 2, 3});

  CHECK(add(*samples, {sample(1, "1", "a")}).stored == 1);
  CHECK(add(*samples, {sample(1, std::nullopt, "a")}).duplicate == 1);
  CHECK(samples->counts().unlabelled == 1);
  CHECK(samples->counts().training == 2);
  CHECK(firsts(*samples, Split::training) == std::vector<float>{3, 1});
  CHECK(rig.open({.holdout_fraction = 0.0})->counts() == samples->counts());
}

TEST_CASE("a label that comes later replaces the one that the same inputs had", "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.holdout_fraction = 0.0});
  const auto labels = [&] {
    std::vector<std::string> found;
    REQUIRE(samples->visit(Split::training, [&](const SampleView& view) {
      found.emplace_back(*view.label);
      return true;
    }));
    return found;
  };
  CHECK(add(*samples, {sample(1, "cat"), sample(2, "dog")}).stored == 2);
  CHECK(add(*samples, {sample(1, "dog")}).stored == 1);
  CHECK(labels() == std::vector<std::string>{"dog", "dog"});
  CHECK(add(*samples, {sample(1, std::nullopt), sample(1, "dog")}).duplicate == 2);
  // In one call as in many: the last word counts.
  CHECK(add(*samples, {sample(3, std::nullopt), sample(3, "a"), sample(3, "b"), sample(3, "b")}).stored == 3);
  CHECK(labels() == std::vector<std::string>{"dog", "dog", "b"});
  CHECK(add(*samples, {sample(4, "x", "id"), sample(4, "y", "id"), sample(5, "z", "id")}).stored == 2);
  CHECK(labels() == std::vector<std::string>{"dog", "dog", "b", "y"});
  CHECK(samples->counts().total() == 4);
  CHECK(rig.open({.holdout_fraction = 0.0})->counts() == samples->counts());
}

TEST_CASE("the same inputs are never in training and in the holdout, whatever they are called",
          "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.holdout_fraction = 0.5});
  std::vector<NewSample> batch;
  for (int i = 0; i < 200; ++i) {
    for (const char* id : {"", "a", "b", "c"}) {
      batch.push_back(
          sample(static_cast<float>(i), id[0] == 'b' ? "2" : "1", id[0] == 0 ? "" : id + std::to_string(i)));
    }
  }
  CHECK(add(*samples, batch).stored == 800);
  const auto training = firsts(*samples, Split::training), holdout = firsts(*samples, Split::holdout);
  CHECK(training.size() + holdout.size() == 800);
  const std::set<float> sides[] = {{training.begin(), training.end()}, {holdout.begin(), holdout.end()}};
  CHECK(sides[0].size() + sides[1].size() == 200);
  CHECK(sides[1].size() > 50);  // Binomial(200, 1/2): seven standard deviations.
  CHECK(samples->counts().training == training.size());
}

/// An entry as the first format had it, from its description: format 1, labelled, time, id, label length,
/// label, count, numbers; and number, bytes, labelled.
void put_first_format(WriteBatch& writes, std::uint64_t number, const Digest& id, const NewSample& sample) {
  Bytes record;
  append_le(record, std::uint8_t{1});
  append_le(record, static_cast<std::uint8_t>(sample.label.has_value()));
  append_le(record, static_cast<std::int64_t>(noon.time_since_epoch().count()));
  record.insert(record.end(), id.bytes.begin(), id.bytes.end());
  const std::string label = sample.label.value_or("");
  append_le(record, static_cast<std::uint16_t>(label.size()));
  record.insert(record.end(), bytes_of(label).begin(), bytes_of(label).end());
  append_le(record, static_cast<std::uint32_t>(sample.inputs.size()));
  for (const float value : sample.inputs) append_le(record, value);
  Bytes index;
  append_le(index, number);
  append_le(index, static_cast<std::uint32_t>(record.size() + 8 + 32 + 13));
  append_le(index, static_cast<std::uint8_t>(sample.label.has_value()));
  writes.push_back(Put{"samples", number_key(number), std::move(record)});
  writes.push_back(Put{"sample_ids", copy_of(id.span()), std::move(index)});
}

/// The SHA-256 of what the first format hashed for a sample without an id of its own.
Digest first_id(const NewSample& sample) {
  Bytes text = copy_of(bytes_of("rivulet.sample.content"));
  append_le(text, static_cast<std::uint64_t>(sample.inputs.size()));
  append_le(text, static_cast<std::uint64_t>(sample.label ? sample.label->size() + 1 : 0));
  for (const float value : sample.inputs) append_le(text, value);
  for (const char c : sample.label.value_or("")) text.push_back(static_cast<std::byte>(c));
  return sha256(text);
}

TEST_CASE("samples of the first format are all there, and split by their inputs from now on",
          "[node][samples]") {
  Rig rig;
  WriteBatch writes;
  std::uint64_t number = 5;
  // 20,000 of them take more than one batch. Then two labels for one input, an id of its own, and one without
  // label.
  for (int i = 0; i < 20'000; ++i) {
    const NewSample one = sample(static_cast<float>(i));
    put_first_format(writes, number++, first_id(one), one);
  }
  const NewSample relabelled = sample(7, "2"), unlabelled = sample(-3, std::nullopt);
  put_first_format(writes, number++, first_id(relabelled), relabelled);
  put_first_format(writes, number++, sha256(bytes_of("rivulet.sample.idmine")), sample(8, "1", "mine"));
  put_first_format(writes, number++, first_id(unlabelled), unlabelled);
  REQUIRE(rig.store->commit(writes, Durability::synced));

  const auto samples = rig.open();
  CHECK(samples->counts().total() == 20'002);
  CHECK(samples->counts().unlabelled == 1);
  const auto training = firsts(*samples, Split::training), holdout = firsts(*samples, Split::holdout);
  CHECK(training.size() == samples->counts().training);
  CHECK(training.size() + holdout.size() == 20'001);
  CHECK(std::abs(static_cast<double>(holdout.size()) - 4000) < 300);  // Five standard deviations.
  for (const auto& values : {training, holdout}) CHECK(std::ranges::count(values, 8.0F) % 2 == 0);
  CHECK(add(*samples, {sample(5), sample(7, "2"), sample(8, "1", "mine"), unlabelled}).duplicate == 4);
  CHECK(rig.open()->counts() == samples->counts());
  std::uint64_t bytes = 0;
  for (const std::string_view family : sample_families) {
    REQUIRE(rig.store->scan(family, {}, [&](ByteSpan key, ByteSpan value) {
      bytes += key.size() + value.size();
      return true;
    }));
  }
  CHECK(samples->counts().bytes == bytes);
}

TEST_CASE("samples that no release takes are refused once it is known, and those there are not counted",
          "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.holdout_fraction = 0.0});
  add(*samples,
      {sample(1, "a"), sample(2, "c"), sample(3, std::nullopt), {.id = {}, .inputs = {1, 2}, .label = "a"}});
  CHECK(samples->counts().used_training == 3);  // Nothing is known of them yet.
  SampleFit fit{.model = "m", .inputs = 3, .task = TaskKind::classification, .classes = {"a", "b"}};
  REQUIRE(samples->set_fit(fit));
  CHECK(samples->counts().training == 3);
  CHECK(samples->counts().used_training == 1);
  const auto outcome = add(*samples, {sample(4, "b"),
                                      sample(5, "c"),
                                      {.id = {}, .inputs = {1, 2, 3, 4}, .label = "a"},
                                      {.id = {}, .inputs = {9, 9}, .label = "a"},
                                      sample(6, std::nullopt)});
  CHECK(outcome.stored == 2);
  REQUIRE(outcome.refused.size() == 3);
  CHECK(outcome.refused[0].reason == "its label 'c' is no class of the model m");
  CHECK(outcome.refused[1].reason == "it has 4 numbers, and the model m takes 3: is one of them the label?");
  CHECK(outcome.refused[2].reason == "it has 2 numbers, and the model m takes 3");
  CHECK(samples->counts().used_training == 2);
  CHECK(add(*samples, {sample(2, "b"), sample(3, "a")}).stored == 2);
  CHECK(samples->counts().used_training == 4);

  fit.task = TaskKind::anomaly;  // Learns from inputs alone.
  REQUIRE(samples->set_fit(fit));
  CHECK(samples->counts().used_training == 5);
  fit.task = TaskKind::regression;
  REQUIRE(samples->set_fit(fit));
  CHECK(samples->counts().used_training == 0);
  CHECK(add(*samples, {sample(7, "0.5"), sample(8, "much")}).stored == 1);
  CHECK(samples->counts().used_training == 1);
  CHECK(samples->counts().used_holdout == 0);

  fit.outputs = 3;
  REQUIRE(samples->set_fit(fit));
  CHECK(samples->counts().used_training == 0);
  CHECK(add(*samples, {sample(9, "0.5")}).refused.at(0).reason ==
        "its label is one number, and the model m answers 3: import one with one output");
}

TEST_CASE("a calendar that was set is told from one that runs", "[node][samples]") {
  using namespace std::chrono_literals;
  SteadyCalendar calendar;
  Now now{1h, noon};
  const auto pass = [&](std::chrono::seconds passed, std::chrono::seconds moved) {
    now.monotonic += passed;
    now.utc += moved;
    return calendar.runs(now);
  };
  CHECK_FALSE(calendar.runs(now));  // Nothing to compare with.
  CHECK(pass(60s, 60s));
  CHECK(pass(60s, 69s));
  CHECK(pass(3600s, 3600s));
  CHECK_FALSE(pass(60s, 24h * 365 * 56));
  CHECK(pass(60s, 60s));
  CHECK_FALSE(pass(60s, -24h));
  CHECK(pass(60s, 60s));
}

TEST_CASE("a damaged sample is named to whoever comes upon it", "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.age_max = std::chrono::hours(1)});
  add(*samples, {sample(1), sample(2)});
  const Bytes key = rig.store->last("samples").value()->key;
  REQUIRE(rig.store->commit({Put{"samples", key, Bytes(3)}}, Durability::synced));
  const auto is_named = [&](const Error& error) {
    return error.code == Errc::corrupt && error.detail.find(" " + to_hex(key) + " ") != std::string::npos;
  };
  const auto fit =
      samples->set_fit({.model = "m", .inputs = 3, .task = TaskKind::classification, .classes = {"a", "b"}});
  REQUIRE_FALSE(fit);
  CHECK(is_named(fit.error()));
  const auto expired = samples->expire(noon + std::chrono::hours(2));
  REQUIRE_FALSE(expired);
  CHECK(is_named(expired.error()));
}

TEST_CASE("a full buffer drops its oldest samples and never outgrows its limit", "[node][samples]") {
  Rig rig;
  const SampleLimits limits{.bytes_max = 64 * 1024};
  auto samples = rig.open(limits);
  std::uint64_t dropped = 0;
  for (int i = 0; i < 40; ++i) {
    std::vector<NewSample> batch;
    for (int k = 0; k < 50; ++k) batch.push_back(sample(static_cast<float>(50 * i + k)));
    dropped += add(*samples, batch).dropped;
    REQUIRE(samples->counts().bytes <= limits.bytes_max);
  }
  CHECK(samples->counts().total() + dropped == 2000);
  CHECK(dropped > 1000);
  const auto left = all_firsts(*samples);
  CHECK(left.size() == samples->counts().total());
  CHECK(left.front() == static_cast<float>(dropped));  // What is left is the newest, without a gap.
  CHECK(left.back() == 1999);

  samples = rig.open(limits);
  CHECK(samples->counts().total() == left.size());
  CHECK(add(*samples, {sample(1999)}).duplicate == 1);
  CHECK(add(*samples, {sample(0)}).stored == 1);  // It was forgotten.
}

TEST_CASE("samples that have grown too old are dropped", "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.age_max = std::chrono::hours(1)});
  add(*samples, {sample(1), sample(2)}, noon);
  add(*samples, {sample(3)}, noon + std::chrono::minutes(40));
  CHECK(samples->expire(noon + std::chrono::minutes(60)) == std::uint64_t{0});
  CHECK(samples->expire(noon + std::chrono::minutes(61)) == std::uint64_t{2});
  CHECK(all_firsts(*samples) == std::vector<float>{3});
  CHECK(samples->counts().total() == 1);
  CHECK(add(*samples, {sample(1)}, noon + std::chrono::minutes(62)).stored == 1);
}

TEST_CASE("a sample that is not in order is refused with the reason and takes no other with it",
          "[node][samples]") {
  Rig rig;
  const auto samples = rig.open({.bytes_max = 64 * 1024});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto outcome = add(*samples, {sample(1),
                                      {.id = {}, .inputs = {}, .label = "1"},
                                      {.id = {}, .inputs = {1, nan}, .label = "1"},
                                      {.id = {}, .inputs = std::vector<float>(20'000, 1), .label = "1"},
                                      {.id = {}, .inputs = {1}, .label = ""},
                                      {.id = {}, .inputs = {1}, .label = std::string(300, 'x')},
                                      {.id = std::string(300, 'x'), .inputs = {1}, .label = "1"},
                                      sample(2)});
  CHECK(outcome.stored == 2);
  REQUIRE(outcome.refused.size() == 6);
  CHECK(outcome.refused[1].index == 2);
  CHECK(outcome.refused[1].reason == "number 2 is not finite");
  CHECK(outcome.refused[5].index == 6);
  CHECK(samples->counts().total() == 2);
}

TEST_CASE("after a crash the counts match the samples, and all that was synced is there", "[node][samples]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 30));
  CAPTURE(seed);
  Rig rig;
  Rng rng(seed);
  {
    const auto samples = rig.open({.bytes_max = 64 * 1024});
    add(*samples, many(100));
    REQUIRE(samples->sync());
    for (int i = 0; i < 5; ++i)
      add(*samples, {sample(static_cast<float>(1000 + i)), sample(static_cast<float>(2000 + i))});
  }
  rig.disk.crash(rng);
  rig.store = make_memory_store(rig.disk, all_families);
  const auto samples = rig.open({.bytes_max = 64 * 1024});
  const auto left = all_firsts(*samples);
  CHECK(samples->counts().total() == left.size());
  CHECK(left.size() >= 100);
  CHECK(add(*samples, many(100)).duplicate == 100);
}

TEST_CASE("a full disk refuses samples and changes nothing; room makes the next ones welcome",
          "[node][samples]") {
  Rig rig;
  const auto samples = rig.open();
  add(*samples, {sample(1)});
  const SampleCounts before = samples->counts();
  rig.disk.fail_next_commit(Errc::storage_full);
  const std::vector<NewSample> more{sample(2)};
  const auto outcome = samples->add(more, noon);
  REQUIRE_FALSE(outcome);
  CHECK(outcome.error().code == Errc::storage_full);
  CHECK(samples->counts() == before);
  CHECK(add(*samples, more).stored == 1);
}

}  // namespace
}  // namespace rivulet::node
