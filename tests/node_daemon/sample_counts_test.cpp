#include <future>

#include "node/daemon/sample_store.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

/// A store that calls the test while it is in use.
class WatchedStore final : public Store {
 public:
  explicit WatchedStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  Status commit(const WriteBatch& batch, Durability durability) override {
    on_use();
    return inner_->commit(batch, durability);
  }
  Status sync() override { return inner_->sync(); }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    return inner_->get(family, key);
  }
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    on_use();
    return inner_->scan(family, prefix, visit, from);
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return inner_->last(family, prefix);
  }

  std::function<void()> on_use = [] {};

 private:
  std::unique_ptr<Store> inner_;
};

TEST_CASE("who asks for the counts never waits for the disk", "[node][samples]") {
  MemoryDisk disk;
  WatchedStore store(make_memory_store(disk, {sample_families.begin(), sample_families.end()}));
  const auto samples = SampleStore::open(store, {}).value();
  const auto add = [&](float value) {
    const std::vector<NewSample> one{{.id = {}, .inputs = {value, 1}, .label = "a"}};
    REQUIRE(samples->add(one, UtcTime(1s)));
  };
  add(1);
  int looks = 0, answers = 0;
  std::vector<std::future<std::uint64_t>> asked;
  store.on_use = [&] {
    ++looks;
    asked.push_back(std::async(std::launch::async, [&] { return samples->counts().total(); }));
    answers += asked.back().wait_for(5s) == std::future_status::ready ? 1 : 0;
  };
  SECTION("while all samples are read") {
    const SampleFit fit{.model = "m", .inputs = 2, .task = TaskKind::classification, .classes = {"a"}};
    REQUIRE(samples->set_fit(fit));
  }
  SECTION("while samples are committed") { add(2); }
  CHECK(looks > 0);
  CHECK(answers == looks);
  for (auto& one : asked) CHECK(one.get() == 1);  // As before what is under way.
}

}  // namespace
}  // namespace rivulet::node
