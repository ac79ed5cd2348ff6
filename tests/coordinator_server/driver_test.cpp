#include "coordinator/server/driver.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "link/system_clock.h"
#include "protocol/documents.h"
#include "sim/world/toy_model.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/small_model.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::coordinator;
using namespace std::chrono_literals;

namespace {

/// A store whose disk may take as long as a test wants.
class SlowStore final : public Store {
 public:
  explicit SlowStore(Store& inner) : inner_(inner) {}

  void hold(bool held) {
    const std::lock_guard lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  Status commit(const WriteBatch& batch, Durability durability) override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !held_; });
    }
    return inner_.commit(batch, durability);
  }
  Status sync() override { return inner_.sync(); }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    return inner_.get(family, key);
  }
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    return inner_.scan(family, prefix, visit, from);
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return inner_.last(family, prefix);
  }

 private:
  Store& inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
};

/// What nodes were told.
class Told final : public Links {
 public:
  void send(SessionId session, Message message) override { sent.emplace_back(session, std::move(message)); }
  void welcome(SessionId session, message::Welcome) override { welcomed.push_back(session); }
  bool close(SessionId session, Reason reason, std::string) override {
    closed.emplace_back(session, reason);
    return true;
  }
  bool fetch(SessionId, const ContentId&, std::uint64_t) override {
    ++fetched;
    return true;
  }
  void stop_fetch(SessionId, const ContentId&) override {}
  [[nodiscard]] bool open(SessionId) const override { return true; }
  void show(ServerMetrics::Gauges&) const override {}

  std::vector<std::pair<SessionId, Message>> sent;
  std::vector<SessionId> welcomed;
  int fetched = 0;
  std::vector<std::pair<SessionId, Reason>> closed;
};

TrustDocument founding_trust() {
  TrustDocument trust;
  trust.fleet.bytes[0] = std::byte{1};
  trust.name = "river";
  trust.version = 1;
  trust.root = rivulet::testing::key_of_byte(1).public_key();
  trust.release_keys = {rivulet::testing::key_of_byte(3).public_key()};
  trust.coordinator = rivulet::testing::key_of_byte(2).public_key();
  trust.created = system_now().utc;
  trust.expires = trust.created + std::chrono::days(30);
  return trust;
}

/// An update of session 3.
effect::FetchUpdate update_of(ByteSpan bytes) {
  effect::FetchUpdate update;
  update.task.bytes[0] = std::byte{1};
  update.session = 3;
  update.content = content_id_of(bytes);
  update.bytes = bytes.size();
  return update;
}

/// A driver whose thread is the test's.
struct SlowCoordinator {
  SlowCoordinator() {
    const SignedTrust trust = sign_trust(founding_trust(), rivulet::testing::key_of_byte(1));
    REQUIRE(memory->commit(found_fleet(trust, 1, system_now()).value(), Durability::synced));
    REQUIRE(driver.recover({}));
    driver.start(links);
    driver.request(
        [&](RequestId id) {
          return event::CreateToken{id, sha256(secret.span()), system_now().utc + 24h, 10};
        },
        [](const auto&) {});
    driver.handle(event::EnrolReceived{1, node, message::Enrol{1, 1, fleet, "test", secret}});
    run_until([&] { return driver.settled(); });
  }
  ~SlowCoordinator() { store.hold(false); }

  void post(std::function<void()> action) {
    const std::lock_guard lock(mutex);
    actions.push_back(std::move(action));
    posted.notify_all();
  }
  /// Does what is posted until `done` says so.
  template <typename Done>
  void run_until(Done done) {
    while (!done()) {
      std::unique_lock lock(mutex);
      REQUIRE(posted.wait_for(lock, 60s, [&] { return !actions.empty(); }));
      auto action = std::move(actions.front());
      actions.pop_front();
      lock.unlock();
      action();
      ++carried_out;
    }
  }
  /// Something is written, which the disk takes its time for.
  void begin_slow_commit() {
    store.hold(true);
    const JoinSecret other = JoinSecret::from_bytes(Bytes(JoinSecret::size, std::byte{9})).value();
    driver.request(
        [&](RequestId id) { return event::CreateToken{id, sha256(other.span()), system_now().utc + 24h, 1}; },
        [this](const Result<nlohmann::json>& reply) { replied = reply.has_value(); });
  }

  FleetId fleet = founding_trust().fleet;
  PublicKey node = rivulet::testing::key_of_byte(5).public_key();
  JoinSecret secret = JoinSecret::from_bytes(Bytes(JoinSecret::size, std::byte{7})).value();
  TemporaryFolder folder;
  SecretKey key = rivulet::testing::key_of_byte(2);
  MemoryDisk disk;
  std::unique_ptr<Store> memory = make_memory_store(disk, families);
  SlowStore store{*memory};
  std::unique_ptr<BlobStore> blobs = make_memory_blob_store(disk);
  sim::ToyRunner runner;
  Datasets datasets{folder.path / "datasets"};
  ServerMetrics metrics;
  Told links;
  std::mutex mutex;
  std::condition_variable posted;
  std::deque<std::function<void()>> actions;
  int carried_out = 0;
  bool replied = false;
  std::optional<Error> failure;
  MonotonicTime skipped{};  // Of the time that a test does not wait for.
  Driver driver{{.store = store,
                 .blobs = *blobs,
                 .key = key,
                 .runner = runner,
                 .datasets = datasets,
                 .metrics = metrics,
                 .blob_quota_bytes = 1 << 30,
                 .folder = folder.path},
                {.now =
                     [this] {
                       Now now = system_now();
                       now.monotonic += skipped;
                       return now;
                     },
                 .post = [this](std::function<void()> action) { post(std::move(action)); },
                 .wake_at = [](MonotonicTime) {},
                 .broken = [this](const Error& error) { failure = error; }}};
};

}  // namespace

TEST_CASE("a commit that takes its time keeps no node out, and lets nothing out that it holds",
          "[coordinator][driver]") {
  SlowCoordinator slow;
  REQUIRE(slow.links.sent.size() == 1);
  REQUIRE(std::holds_alternative<message::Enrolled>(slow.links.sent[0].second));
  slow.begin_slow_commit();
  const PublicKey other = rivulet::testing::key_of_byte(6).public_key();
  slow.driver.handle(event::EnrolReceived{2, other, message::Enrol{1, 1, slow.fleet, "test", slow.secret}});
  slow.driver.handle(event::HelloReceived{3, slow.node, message::Hello{1, 1, slow.fleet, "test"}});
  CHECK(slow.links.welcomed == std::vector<SessionId>{3});
  // A newer session takes its place, also at once.
  slow.driver.handle(event::HelloReceived{4, slow.node, message::Hello{1, 1, slow.fleet, "test"}});
  CHECK(slow.links.welcomed == std::vector<SessionId>{3, 4});
  CHECK(slow.links.closed == std::vector<std::pair<SessionId, Reason>>{{3, Reason::replaced}});
  // What it asks then has an answer that waits, as do those before it.
  TaskId task;
  task.bytes[0] = std::byte{1};
  slow.driver.handle(event::ReadyReceived{4, {0, 0, 10, 0, {}, {task}}});
  CHECK(slow.links.sent.size() == 1);
  CHECK_FALSE(slow.replied);

  slow.store.hold(false);
  slow.run_until([&] { return slow.driver.settled(); });
  CHECK(slow.replied);
  REQUIRE(slow.links.sent.size() == 3);
  CHECK(slow.links.sent[1].first == 2);
  CHECK(std::holds_alternative<message::Enrolled>(slow.links.sent[1].second));
  CHECK(slow.links.sent[2].first == 4);
  CHECK(std::holds_alternative<message::Verdicts>(slow.links.sent[2].second));
}

TEST_CASE("nodes hear of a trust document when it is durable", "[coordinator][driver]") {
  SlowCoordinator slow;
  TrustDocument next = founding_trust();
  next.version = 2;
  const SignedTrust trust = sign_trust(next, rivulet::testing::key_of_byte(1));
  slow.begin_slow_commit();
  bool replied = false;
  slow.driver.request([&](RequestId id) { return event::TrustChanged{id, trust}; },
                      [&](const Result<nlohmann::json>& reply) { replied = reply.has_value(); });
  REQUIRE(slow.driver.state().trust.version == 2);
  CHECK(slow.driver.trust_chain().size() == 1);
  CHECK_FALSE(replied);
  slow.store.hold(false);
  slow.run_until([&] { return slow.driver.settled(); });
  CHECK(replied);
  REQUIRE(slow.driver.trust_chain().size() == 2);
  CHECK(slow.driver.trust_chain().back() == trust);
}

TEST_CASE("receipts for reports are counted apart from those for updates", "[coordinator][driver]") {
  SlowCoordinator slow;
  const auto count = [&](const std::string& series) {
    const std::string text = slow.driver.metrics_text();
    const auto at = text.find("\n" + series + "{reason=\"bad_signature\",receipt=\"refused\"} ");
    REQUIRE(at != std::string::npos);
    return std::stod(text.substr(text.find("} ", at) + 2));
  };
  slow.driver.handle(event::HelloReceived{3, slow.node, message::Hello{1, 1, slow.fleet, "test"}});
  slow.driver.handle(event::ReadyReceived{3, {0, 0, 10, 0, {}, {}}});
  slow.driver.handle(event::EvaluationReceived{3, {}});
  slow.driver.handle(event::EvaluationReceived{3, {}});
  slow.run_until([&] { return slow.driver.settled(); });
  CHECK(count("rivulet_reports_total") == 2);
  CHECK(count("rivulet_updates_total") == 0);
  slow.driver.handle(event::OfferReceived{3, {}});
  slow.run_until([&] { return slow.driver.settled(); });
  CHECK(count("rivulet_reports_total") == 2);
  CHECK(count("rivulet_updates_total") == 1);
}

TEST_CASE("an upload is inspected while a commit takes its time", "[coordinator][driver]") {
  SlowCoordinator slow;
  slow.begin_slow_commit();
  const Bytes bytes(100, std::byte{1});
  effect::FetchUpdate update = update_of(bytes);
  REQUIRE(slow.blobs->append_part(update.content, 0, bytes));
  slow.driver.uploads().want(slow.links, update);
  slow.driver.uploads().arrived(3, update.content);
  // Read, judged to be no delta of anything, and gone.
  slow.run_until([&, before = slow.carried_out] { return slow.carried_out > before; });
  CHECK(slow.blobs->used_bytes() == 0);
  CHECK_FALSE(slow.replied);
  slow.store.hold(false);
  slow.run_until([&] { return slow.driver.settled(); });
  CHECK(slow.replied);
}

TEST_CASE("an upload that the disk damaged is asked for once more, and not held against the node",
          "[coordinator][driver]") {
  SlowCoordinator slow;
  Bytes bytes(100, std::byte{1});
  const effect::FetchUpdate update = update_of(bytes);
  bytes[50] = std::byte{2};
  REQUIRE(slow.blobs->append_part(update.content, 0, bytes));
  slow.driver.uploads().want(slow.links, update);
  CHECK(slow.links.fetched == 1);
  slow.driver.uploads().arrived(3, update.content);
  slow.run_until([&] { return slow.links.fetched == 2; });
  CHECK_FALSE(slow.blobs->contains(update.content));
  CHECK(slow.blobs->part_length(update.content).value() == 0);
  CHECK_FALSE(slow.failure);
  CHECK(slow.metrics.text().find("content_damaged") != std::string::npos);
}

TEST_CASE("a disk that damages what comes time after time is broken, and no node is asked for ever",
          "[coordinator][driver]") {
  SlowCoordinator slow;
  Bytes bytes(100, std::byte{1});
  const effect::FetchUpdate update = update_of(bytes);
  bytes[50] = std::byte{2};
  REQUIRE(slow.blobs->append_part(update.content, 0, bytes));
  slow.driver.uploads().want(slow.links, update);
  slow.driver.uploads().arrived(3, update.content);
  slow.run_until([&] { return slow.links.fetched == 2; });
  CHECK_FALSE(slow.failure);
  REQUIRE(slow.blobs->append_part(update.content, 0, bytes));
  slow.driver.uploads().arrived(3, update.content);
  slow.run_until([&] { return slow.failure || slow.links.fetched > 2; });
  REQUIRE(slow.failure);
  CHECK(slow.failure->code == Errc::storage);
  CHECK(slow.failure->detail.find("changes what is written") != std::string::npos);
  CHECK(slow.links.fetched == 2);
}

TEST_CASE("a content that is wanted under another length meanwhile is inspected under that one",
          "[coordinator][driver]") {
  SlowCoordinator slow;
  const Bytes bytes(100, std::byte{1});
  effect::FetchUpdate update = update_of(bytes);
  REQUIRE(slow.blobs->append_part(update.content, 0, bytes));
  slow.driver.uploads().want(slow.links, update);
  slow.driver.uploads().arrived(3, update.content);
  update.bytes = 99;
  slow.driver.uploads().want(slow.links, update);
  // Once under each: the answer to the first is none to the second.
  slow.run_until([&, before = slow.carried_out] { return slow.carried_out == before + 2; });
  CHECK(slow.blobs->used_bytes() == 0);
}

TEST_CASE("on a full disk nodes that come and go leave nothing behind that waits", "[coordinator][driver]") {
  SlowCoordinator slow;
  slow.disk.fail_next_commit(Errc::storage_full);
  slow.begin_slow_commit();
  slow.store.hold(false);
  slow.run_until([&] { return slow.driver.state().storage_full; });
  TaskId task;
  task.bytes[0] = std::byte{1};
  slow.links.sent.clear();
  constexpr std::size_t sessions = 100;
  for (SessionId session = 10; session < 10 + sessions; ++session) {
    slow.skipped += 1s;  // No faster than a node may speak.
    slow.driver.handle(event::HelloReceived{session, slow.node, message::Hello{1, 1, slow.fleet, "test"}});
    slow.driver.handle(event::ReadyReceived{session, {0, 0, 10, 0, {task}, {task}}});
    REQUIRE(slow.links.sent.size() == session - 9);  // Told at once.
    CHECK(std::get<message::Backoff>(slow.links.sent.back().second).reason == Reason::storage_full);
    slow.driver.handle(event::SessionClosed{session});
  }
  CHECK_FALSE(slow.replied);
  slow.driver.tick();  // There is room again.
  slow.run_until([&] { return slow.driver.settled() && !slow.driver.state().storage_full; });
  CHECK(slow.replied);
  CHECK(slow.links.sent.size() == sessions);
}
