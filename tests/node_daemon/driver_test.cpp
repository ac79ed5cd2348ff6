#include "node/daemon/agent_driver.h"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "models/runtime/runtime.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/node_daemon/joined_folder.h"
#include "tests/temporary_folder.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

/// A store of samples with a block that its disk has damaged.
class DamagedStore final : public Store {
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
    if (!damaged) return inner_->scan(family, prefix, visit, from);
    ++scans;
    return fail(Errc::corrupt, "a block has a wrong checksum");
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return inner_->last(family, prefix);
  }

  std::atomic<bool> damaged = false;
  mutable std::atomic<int> scans = 0;
  std::atomic<int> syncs = 0;

 private:
  MemoryDisk disk_;
  std::unique_ptr<Store> inner_ = make_memory_store(disk_, {sample_families.begin(), sample_families.end()});
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

/// The agent at work in a folder that serves a version, beside the test.
struct Running {
  TemporaryFolder temporary;
  InstalledVersion version;
  DamagedStore damaged;
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
    driver->stop();
    thread.join();
  }
  void start(const std::function<void(Config&)>& set = {}) {
    State state = recover_agent(*folder).value();
    if (set) set(state.config);
    driver = std::make_unique<AgentDriver>(*folder, std::move(state), inference, metrics);
    thread = std::thread([this] { std::ignore = driver->run(); });
  }
  template <typename Condition>
  static bool eventually(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return condition();
  }
  [[nodiscard]] bool serves() const { return inference.served() != nullptr; }
  [[nodiscard]] bool says(const std::string& words) {
    const auto text = driver->status();
    return text && text->find(words) != std::string::npos;
  }
};

TEST_CASE("a model comes back into service though the samples beside it are damaged", "[node][driver]") {
  Running node;
  node.folder->samples = SampleStore::open(node.damaged, {}).value();
  node.damaged.damaged = true;
  node.start();
  REQUIRE(Running::eventually([&] { return node.serves(); }));
  CHECK(node.inference.served()->version == 1);
  CHECK(Running::eventually([&] { return node.says("\"service\":\"loaded\""); }));
  CHECK(node.damaged.scans > 0);
}

TEST_CASE("a daemon goes on though a block of its samples is damaged", "[node][driver]") {
  Running node;
  node.folder->samples = SampleStore::open(node.damaged, {}).value();
  const std::vector<NewSample> samples{{.id = {}, .inputs = {1, 2}, .label = "1"}};
  REQUIRE(node.folder->samples->add(samples, UtcTime()));
  node.damaged.damaged = true;
  node.start();
  REQUIRE(Running::eventually([&] { return node.damaged.syncs >= 3; }));
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
  node.start([](Config& config) {
    config.connect_timeout = 20ms;
    config.backoff_min = 1ms;
    config.backoff_max = 400ms;
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
  // The same version, as if its memory had been damaged: it overflows on its own known inputs.
  Release release = node.version.release;
  release.known_inputs = {1e38F, 1e38F};
  std::vector<float> weights(release.layout.size(), 0.0F);
  weights[0] = 1e30F;
  weights[1] = -1e30F;
  node.inference.swap(load_served_model(release, weights, node.version.manifest, "int8").value());
  const std::vector<std::vector<float>> sample = {{1e38F, 1e38F}};
  REQUIRE(node.inference.answer(sample));
  CHECK(Running::eventually([&] { return !node.serves(); }));
  const auto refused = node.inference.answer(sample);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::busy);
  CHECK(Running::eventually([&] { return node.says("\"service\":\"failed\""); }));
}

}  // namespace
}  // namespace rivulet::node
