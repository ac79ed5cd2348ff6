#include "node/daemon/agent_driver.h"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "link/system_clock.h"
#include "models/runtime/runtime.h"
#include "node/daemon/sample_fit.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/node_daemon/joined_folder.h"
#include "tests/temporary_folder.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

/// A store of samples that has a damaged block, or no end, as long as it is told so.
class OddStore final : public Store {
 public:
  Status commit(const WriteBatch& batch, Durability durability) override {
    return inner_->commit(batch, durability);
  }
  Status sync() override {
    if (!damaged) return inner_->sync();
    ++syncs;
    return fail(Errc::corrupt, "a block has a wrong checksum");
  }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    return inner_->get(family, key);
  }
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    if (damaged) {
      ++scans;
      return fail(Errc::corrupt, "a block has a wrong checksum");
    }
    bool wanted = true;
    const Visitor visit_one = [&](ByteSpan key, ByteSpan value) { return wanted = visit(key, value); };
    Status status = inner_->scan(family, prefix, visit_one, from);
    std::unique_lock lock(mutex_);
    // Slowly, for who reads it keeps what it has read.
    while (wanted && status && !changed_.wait_for(lock, 1ms, [this] { return !endless_; }))
      status = inner_->scan(family, prefix, visit_one, from);
    return status;
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return inner_->last(family, prefix);
  }

  void set_endless(bool endless) {
    const std::lock_guard lock(mutex_);
    endless_ = endless;
    changed_.notify_all();
  }

  std::atomic<bool> damaged = false;
  mutable std::atomic<int> scans = 0;
  std::atomic<int> syncs = 0;

 private:
  MemoryDisk disk_;
  std::unique_ptr<Store> inner_ = make_memory_store(disk_, {sample_families.begin(), sample_families.end()});
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool endless_ = false;
};

/// A store whose disk is full as long as it is told so.
class FullStore final : public Store {
 public:
  explicit FullStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  Status commit(const WriteBatch& batch, Durability durability) override {
    ++commits;
    if (full) return fail(Errc::storage_full, "no space left");
    return inner_->commit(batch, durability);
  }
  Status sync() override { return inner_->sync(); }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    return inner_->get(family, key);
  }
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    return inner_->scan(family, prefix, visit, from);
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return inner_->last(family, prefix);
  }

  std::atomic<bool> full = true;
  std::atomic<int> commits = 0;

 private:
  std::unique_ptr<Store> inner_;
};

const std::vector<std::vector<float>> overflowing = {{1e38F, 1e38F}};

/// The agent at work in a folder that serves a version, beside the test.
struct Running {
  TemporaryFolder temporary;
  InstalledVersion version;
  OddStore odd;
  std::unique_ptr<NodeFolder> folder;
  Metrics metrics;
  Inference inference{metrics};
  std::unique_ptr<AgentDriver> driver;
  std::thread thread;

  Running() {
    use_one_thread();
    make_joined_folder(temporary.path);
    version = install_version(temporary.path);
    folder = open_node_folder(temporary.path).value();
  }
  ~Running() {
    if (!driver) return;
    odd.set_endless(false);
    driver->stop();
    thread.join();
  }
  void start(const std::function<void(State&)>& set = {}) {
    State state = recover_agent(*folder).value();
    if (set) set(state);
    driver = std::make_unique<AgentDriver>(*folder, std::move(state), inference, metrics);
    thread = std::thread([this] { std::ignore = driver->run(); });
  }
  template <typename Condition>
  static bool eventually(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return condition();
  }
  /// What serves is the same version, as if its memory had been damaged: it overflows on its known inputs.
  void fail_in_service() {
    Release release = version.release;
    release.known_inputs = overflowing[0];
    std::vector<float> weights(release.layout.size(), 0.0F);
    weights[0] = 1e30F;
    weights[1] = -1e30F;
    inference.swap(load_served_model(release, weights, version.manifest, "int8").value());
    REQUIRE(inference.answer(overflowing));
  }
  [[nodiscard]] bool serves() const { return inference.served() != nullptr; }
  [[nodiscard]] bool says(const std::string& words) {
    const auto text = driver->status();
    return text && text->find(words) != std::string::npos;
  }
};

TEST_CASE("a model comes back into service though the samples beside it are damaged", "[node][driver]") {
  Running node;
  node.folder->samples = SampleStore::open(node.odd, {}).value();
  node.odd.damaged = true;
  node.start();
  REQUIRE(Running::eventually([&] { return node.serves(); }));
  CHECK(node.inference.served()->version == 1);
  CHECK(Running::eventually([&] { return node.says("\"service\":\"loaded\""); }));
  CHECK(node.odd.scans > 0);
}

TEST_CASE("a daemon goes on though a block of its samples is damaged", "[node][driver]") {
  Running node;
  node.folder->samples = SampleStore::open(node.odd, {}).value();
  const std::vector<NewSample> samples{{.id = {}, .inputs = {1, 2}, .label = "1"}};
  REQUIRE(node.folder->samples->add(samples, UtcTime()));
  node.odd.damaged = true;
  node.start();
  REQUIRE(Running::eventually([&] { return node.odd.syncs >= 3; }));
  CHECK(node.says("\"running\":true"));
}

TEST_CASE("attempts to connect that a full disk kept waiting are not all made at once", "[node][driver]") {
  Running node;
  auto inner = std::move(node.folder->store);
  auto wrapped = std::make_unique<FullStore>(std::move(inner));
  FullStore& disk = *wrapped;
  node.folder->store = std::make_unique<SerialStore>(std::move(wrapped));
  asio::io_context io;
  asio::ip::tcp::acceptor coordinator(io, {asio::ip::make_address("127.0.0.1"), 0});
  node.folder->config.coordinator = {"127.0.0.1", coordinator.local_endpoint().port()};
  node.start([](State& state) {
    state.config.connect_timeout = 20ms;
    state.config.backoff_min = 1ms;
    state.config.backoff_max = 400ms;
  });
  // A second and more, in which it gives up a dozen attempts.
  REQUIRE(Running::eventually([&] { return disk.commits >= 3; }));
  disk.full = false;
  std::vector<std::chrono::steady_clock::time_point> times;
  for (int i = 0; i < 4; ++i) {
    std::ignore = coordinator.accept();
    times.push_back(std::chrono::steady_clock::now());
  }
  CHECK(times.back() - times.front() > 400ms);  // Half of backoff_max at least lies between two.
}

TEST_CASE("a model that fails in service with none before it answers nobody any more", "[node][driver]") {
  Running node;
  node.start();
  REQUIRE(Running::eventually([&] { return node.says("\"service\":\"loaded\""); }));
  node.fail_in_service();
  CHECK(Running::eventually([&] { return !node.serves(); }));
  const auto refused = node.inference.answer(overflowing);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::busy);
  CHECK(Running::eventually([&] { return node.says("\"service\":\"failed\""); }));
}

/// A task to compare the version that is installed with itself.
Task comparison_of(const VersionManifest& manifest) {
  Task task;
  task.task.id.bytes[0] = std::byte{9};
  task.task.type = message::TaskType::evaluate;
  task.task.remaining_ms = 600'000;
  task.base = manifest;
  CandidateManifest& candidate = task.candidate.emplace();
  candidate.release = manifest.release;
  candidate.release_content = manifest.release_content;
  candidate.form = manifest.form;
  candidate.snapshot = manifest.snapshot;
  candidate.snapshot_bytes = manifest.snapshot_bytes;
  candidate.weights_hash = manifest.weights_hash;
  task.deadline_utc = system_now().utc + 10min;
  return task;
}

TEST_CASE("a model comes back into service though an evaluation is under way, which begins anew then",
          "[node][driver]") {
  Running node;
  node.folder->samples = SampleStore::open(node.odd, {.holdout_fraction = 0.5}).value();
  std::vector<NewSample> samples(20);
  for (std::size_t i = 0; i < samples.size(); ++i)
    samples[i] = {.id = {}, .inputs = {static_cast<float>(i), 1}, .label = "1"};
  REQUIRE(node.folder->samples->add(samples, system_now().utc));
  REQUIRE(node.folder->samples->set_fit(fit_of(node.version.release)));
  node.odd.set_endless(true);  // No evaluation comes to its end, unless it is stopped.
  node.start([&](State& state) {
    state.trust.document->release_keys.push_back(state.releases.begin()->second.signer);
    state.serving.active->manifest.variants[0].own_ranges = false;  // Loading it reads no sample.
    state.serving.previous = state.serving.active;
    state.serving.previous->manifest.version = state.serving.previous->manifest.manifest_version = 7;
    const Task task = comparison_of(node.version.manifest);
    state.tasks.emplace(task.task.id, task);
  });
  REQUIRE(Running::eventually([&] { return node.says("\"service\":\"loaded\""); }));
  REQUIRE(Running::eventually([&] { return node.says("\"state\":\"running\""); }));
  node.fail_in_service();
  CHECK(Running::eventually([&] { return node.serves() && node.inference.served()->version == 7; }));
  CHECK(Running::eventually([&] { return node.says("\"state\":\"running\""); }));
  node.odd.set_endless(false);
  CHECK(Running::eventually([&] { return node.says("\"type\":\"report\""); }));
}

}  // namespace
}  // namespace rivulet::node
