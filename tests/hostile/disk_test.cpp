#include <cstdlib>
#include <fstream>

#include "storage/fault_disk.h"
#include "tests/hostile/world.h"

using namespace rivulet;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

/// All stores of this program lie on a disk that a test can fill or break.
const bool armed = ::setenv("RIVULET_FAULT_FS", "enospc_after=1000000000000000", 1) == 0;

FaultDisk& disk() {
  REQUIRE(armed);
  REQUIRE(FaultDisk::from_env() != nullptr);
  return *FaultDisk::from_env();
}

/// The disk is in order again at the end of a test, however it ends.
struct Mended {
  ~Mended() { disk().restart(); }
};

HostileWorld::Change two_nodes() {
  return [](coordinator::ConfigFile& config) { config.core.limits.storage_backoff = 100ms; };
}

}  // namespace

TEST_CASE("on a full disk nodes are told to come later, and nothing that was accepted is lost",
          "[hostile][disk]") {
  const Mended mended;
  HostileWorld world(two_nodes());
  world.import();
  const auto first = world.member();
  const auto second = world.member();
  const auto tasks = world.round({first.get(), second.get()});
  const UpdateHeader kept = first->offer(tasks[0], std::vector<float>(9, 0.5F), 10);
  CHECK(first->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);

  const std::size_t mark = LogLines::mark();
  disk().set_space(0);
  second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
  const auto backoff = second->await<message::Backoff>();
  CHECK(backoff.reason == Reason::storage_full);
  CHECK(backoff.retry_after_ms == 100);
  second->await_end();
  world.await_metric("rivulet_refusals_total", {"reason=\"storage_full\""}, 1);
  CHECK_FALSE(LogLines::since(mark, {"storage_full "}).empty());
  CHECK(LogLines::since(mark, {"backoff ", " reason=storage_full "}).size() == 1);

  // What must be written waits; meanwhile who comes is answered, and the coordinator stays up.
  auto token =
      std::async(std::launch::async, [&] { return world.server->post("/v1/tokens", R"({"uses":1})"); });
  run_until(world.io, [&] { return world.metric("rivulet_storage_writable") == 0; });
  run_until(world.io, [&] { return world.server->get("/readyz").status == 507; });
  CHECK(world.server->get("/healthz").status == 200);
  second->dial(world.server->listen);
  second->hello(world.id);
  std::ignore = second->await<message::Welcome>();
  // Before it brings anything.
  CHECK(second->ask<message::Backoff>(message::Ready{}).reason == Reason::storage_full);
  second->await_end();
  const auto stranger = world.stranger();
  stranger->dial(world.server->listen);
  stranger->enrol(world.id, JoinSecret{});
  CHECK(stranger->await<message::Backoff>().reason == Reason::storage_full);
  // The receipt of before is no promise that needs room, but no new one is made either.
  CHECK(first->ask<message::Backoff>(message::Offer{first->sealed(kept)}).reason == Reason::storage_full);
  first->await_end();
  CHECK(token.wait_for(0s) == std::future_status::timeout);

  disk().set_space(std::nullopt);
  CHECK(token.get().status == 200);
  run_until(world.io, [&] { return world.server->get("/readyz").status == 200; });
  world.session(*first);
  CHECK(first->ask<message::Receipt>(message::Offer{first->sealed(kept)}).outcome ==
        message::ReceiptOutcome::accepted);
  CHECK(first->last<message::Fetch>() == nullptr);
  const std::vector<float> before = world.weights(1);
  world.session(*second);
  second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
  CHECK(second->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  const json ended = world.ended_round();
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 2);
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK(after[i] == Approx(before[i] + 0.3125));
}

TEST_CASE("a disk that fails ends the coordinator, and what it had promised is there after a restart",
          "[hostile][disk]") {
  const Mended mended;
  HostileWorld world(two_nodes());
  world.import();
  const auto first = world.member();
  const auto second = world.member();
  const auto tasks = world.round({first.get(), second.get()});
  const UpdateHeader kept = first->offer(tasks[0], std::vector<float>(9, 0.5F), 10);
  CHECK(first->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  const std::vector<float> before = world.weights(1);

  const std::size_t mark = LogLines::mark();
  disk().fail_syncs(true);
  SECTION("while an update comes in") {
    second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
    second->await_end();
    CHECK(second->last<message::Receipt>() == nullptr);  // No word of what may be lost.
  }
  SECTION("while an operator's wish is written") {
    const HttpReply reply = world.server->post("/v1/tokens", R"({"uses":1})");
    CHECK(reply.status != 200);
    second->await_end();
  }
  first->await_end();
  const Status status = world.stop();
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == Errc::storage);
  CHECK(LogLines::since(mark, {"storage_failed "}).size() == 1);

  disk().crash();  // Whatever was not synced is gone.
  disk().restart();
  world.start();
  world.session(*first);
  CHECK(first->ask<message::Receipt>(message::Offer{first->sealed(kept)}).outcome ==
        message::ReceiptOutcome::accepted);
  CHECK(first->last<message::Fetch>() == nullptr);
  world.session(*second);
  second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
  CHECK(second->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  CHECK(world.ended_round().at("state") == "published");
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK(after[i] == Approx(before[i] + 0.3125));
}

TEST_CASE("wherever the disk breaks behind an update, the round is finished after a restart",
          "[hostile][disk]") {
  for (std::uint64_t writes = 0;; ++writes) {
    CAPTURE(writes);
    REQUIRE(writes < 200);
    const Mended mended;
    HostileWorld world(two_nodes());
    world.import();
    const auto first = world.member();
    const auto second = world.member();
    const auto tasks = world.round({first.get(), second.get()});
    first->offer(tasks[0], std::vector<float>(9, 0.5F), 10);
    CHECK(first->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
    const std::vector<float> before = world.weights(1);
    disk().fail_after(writes);
    second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
    run_until(world.io, [&] { return first->ended || first->last<message::Verdicts>() != nullptr; });
    if (const auto* verdicts = first->last<message::Verdicts>()) {
      CHECK(verdicts->entries.at(0).outcome == message::VerdictOutcome::aggregated);
      CHECK(writes > 5);  // The update, the candidate, the version, and what is recorded of them.
      return;
    }
    first->await_end();
    second->await_end();
    const Status status = world.stop();
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == Errc::storage);

    disk().crash();
    disk().restart();
    world.start();
    world.session(*first);
    world.session(*second);
    second->offer(tasks[1], std::vector<float>(9, 0.25F), 30);
    CHECK(second->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
    const json ended = world.ended_round();
    CHECK(ended.at("state") == "published");
    CHECK(ended.at("accepted") == 2);
    const std::vector<float> after = world.weights(2);
    for (std::size_t i = 0; i < after.size(); ++i) CHECK(after[i] == Approx(before[i] + 0.3125));
  }
}

TEST_CASE("a model that the disk has damaged is told once, and nobody is served it", "[hostile][disk]") {
  const Mended mended;
  HostileWorld world(two_nodes());
  world.import();
  const auto node = world.member();
  const json version = world.server->get_json("/v1/versions/1");
  const auto snapshot = ContentId::from_hex(version.at("snapshot").get<std::string>());
  REQUIRE(snapshot.has_value());
  const auto bytes = version.at("snapshot_bytes").get<std::uint64_t>();
  REQUIRE(node->fetch(*snapshot, bytes).size() == bytes);
  REQUIRE(world.stop().has_value());
  node->hang_up();
  const auto file = world.fleet.folder / "blobs" / snapshot->hex();
  REQUIRE(std::filesystem::file_size(file) == bytes);
  {
    std::fstream blob(file, std::ios::in | std::ios::out | std::ios::binary);
    blob.seekp(20);
    blob.put('\x7f');
  }
  const std::size_t mark = LogLines::mark();
  world.start();
  // Found out before anybody asks.
  world.await_metric("rivulet_events_total", {"event=\"content_damaged\""}, 1);
  world.session(*node);
  for (int i = 0; i < 3; ++i) CHECK(node->fetch(*snapshot, bytes).empty());
  CHECK(world.metric("rivulet_events_total", {"event=\"content_damaged\""}) == 1);
  CHECK(LogLines::since(mark, {"content_damaged ", snapshot->hex()}).size() == 1);
}
