#include "tests/hostile/bombs.h"
#include "tests/hostile/world.h"

using namespace rivulet;
using namespace std::chrono_literals;

namespace {

/// Sends a byte each 20 ms until the connection has ended.
void drip(asio::io_context& io, Peer& peer) {
  asio::steady_timer pace(io);
  std::function<void()> next = [&] {
    pace.expires_after(20ms);
    pace.async_wait([&](const std::error_code& error) {
      if (error || peer.ended) return;
      peer.send_bytes(Bytes(1));
      next();
    });
  };
  next();
  peer.await_end();
  pace.cancel();
  io.restart();
  io.poll();  // The timer's handler goes before what it refers to.
}

}  // namespace

TEST_CASE("a member that misbehaves in its session is cut off with a reason, and may come again",
          "[hostile]") {
  HostileWorld world;
  const auto node = world.member();
  struct Case {
    const char* what;
    Reason reason;
    Bytes bytes;
  };
  const auto said = [](Message message) { return frame_of(encode(message)); };
  const std::vector<Case> cases{
      {"a frame over the limit", Reason::frame_too_large, frame_of(128 * 1024 + 1, {})},
      {"a length of 0", Reason::malformed_frame, frame_of(0, {})},
      {"a length of 2^32 - 1", Reason::frame_too_large, frame_of(0xffffffff, {})},
      {"a message that ends too early", Reason::malformed_frame,
       frame_of(ByteSpan(encode(Message(message::Ready{}))).first(24))},
      {"a nesting bomb", Reason::malformed_frame, frame_of(nesting_bomb())},
      {"a list of 2^29 things without size", Reason::malformed_frame, frame_of(zero_size_bomb())},
      {"a list that points to one thing 8000 times", Reason::malformed_frame,
       frame_of(amplification_bomb(8000))},
      {"a message of many segments", Reason::malformed_frame, frame_of(segment_bomb())},
      {"hello once more", Reason::unexpected_message, said(message::Hello{1, 1, world.id, "hostile"})},
      {"a token in a session", Reason::unexpected_message,
       said(message::Enrol{1, 1, world.id, "hostile", {}})},
      {"ready once more", Reason::unexpected_message, said(message::Ready{})},
      {"a task for the coordinator", Reason::unexpected_message, said(message::Task{})},
      {"an assignment for the coordinator", Reason::unexpected_message, said(message::Assignment{})},
      {"a receipt for the coordinator", Reason::unexpected_message, said(message::Receipt{})},
      {"a verdict for the coordinator", Reason::unexpected_message, said(message::Verdicts{})},
      {"trust for the coordinator", Reason::unexpected_message, said(message::TrustChain{})},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected = expect_cut_off(world, one.reason);
    node->send_bytes(one.bytes);
    const auto refused = node->await<message::Refused>();
    CHECK(name(refused.reason) == name(one.reason));
    CHECK_FALSE(refused.detail.empty());
    node->await_end();
    expected.check();
    world.session(*node);
  }
  SECTION("what a newer node may say is passed over") {
    Bytes unknown = encode(Message(message::Heartbeat{}));
    unknown[16] = std::byte{0xff};  // The number of the message's kind.
    node->send_bytes(frame_of(unknown));
    node->send(message::Chunk{{}, 0, Bytes(100)});
    node->send(message::ContentList{});
    node->send(message::Credit{{}, 0xffffffff});
    std::ignore = node->ask<message::NoContent>(message::Fetch{});
    CHECK_FALSE(node->ended);
  }
  SECTION("a connection that ends in the middle of a frame takes nothing with it") {
    node->send_bytes(frame_of(100'000, Bytes(5000)));
    run_until(world.io, [&] { return node->bytes_sent > 5000; });
  }
  node->hang_up();
  run_until(world.io, [&] { return world.metric("rivulet_connections") == 0; });
  world.complete_honest_round();
}

TEST_CASE("the first words after the welcome may be long", "[hostile]") {
  HostileWorld world;
  const auto node = world.member();
  node->dial(world.server->listen);
  node->hello(world.id);
  std::ignore = node->await<message::Welcome>();
  message::Ready ready{0, 0, 10, 0, std::vector<TaskId>(256), std::vector<TaskId>(256)};
  REQUIRE(encode(Message(ready)).size() > Limits().hello_frame_bytes_max);
  node->send(ready);
  std::ignore = node->ask<message::NoContent>(message::Fetch{});
  CHECK_FALSE(node->ended);
}

TEST_CASE("a member that repeats cheap messages without end is sent away, and heard again later",
          "[hostile]") {
  HostileWorld world([](coordinator::ConfigFile& config) {
    config.core.limits.messages_burst = 60;
    config.core.limits.messages_per_second = 30;
  });
  world.import();
  const auto node = world.member();
  Expected expected = expect_cut_off(world, Reason::overloaded);
  Bytes flood;
  for (int i = 0; i < 5000; ++i) {
    const Bytes frame = frame_of(encode(Message(message::Telemetry{1, 10, 0, 0, 0})));
    flood.insert(flood.end(), frame.begin(), frame.end());
  }
  node->send_bytes(std::move(flood));
  const auto backoff = node->await<message::Backoff>();
  CHECK(backoff.reason == Reason::overloaded);
  CHECK(backoff.retry_after_ms > 0);
  CHECK(backoff.retry_after_ms <= 1000);
  node->await_end();
  expected.check();
  CHECK(world.metric("rivulet_events_total", {"event=\"too_many_messages\"", "reason=\"overloaded\""}) == 1);
  CHECK(world.metric("rivulet_sessions") == 0);
  asio::steady_timer patience(world.io, std::chrono::milliseconds(backoff.retry_after_ms));
  bool over = false;
  patience.async_wait([&](const std::error_code&) { over = true; });
  run_until(world.io, [&] { return over; });
  world.session(*node);
  node->hang_up();
  run_until(world.io, [&] { return world.metric("rivulet_connections") == 0; });
  world.complete_honest_round();
}

TEST_CASE("what content needs is not counted among a member's messages", "[hostile]") {
  HostileWorld world([](coordinator::ConfigFile& config) {
    config.core.limits.messages_burst = 50;
    config.core.limits.messages_per_second = 1;
  });
  const auto node = world.member();
  for (int i = 0; i < 2000; ++i) {
    node->send(message::Heartbeat{});
    node->send(message::Credit{{}, 1});
    node->send(message::Chunk{{}, 0, Bytes(100)});
  }
  std::ignore = node->ask<message::NoContent>(message::Fetch{});
  CHECK_FALSE(node->ended);
}

TEST_CASE("of two sessions with one key the older one ends", "[hostile]") {
  HostileWorld world;
  const auto node = world.member();
  Peer twin(world.io, SecretKey::from_seed(node->key.seed()));
  Expected expected = expect_cut_off(world, Reason::replaced);
  world.session(twin);
  CHECK(node->await<message::Refused>().reason == Reason::replaced);
  node->await_end();
  expected.check();
  std::ignore = twin.ask<message::NoContent>(message::Fetch{});
  CHECK(world.metric("rivulet_sessions") == 1);
}

TEST_CASE("a revoked node's session ends at once", "[hostile]") {
  HostileWorld world;
  const auto node = world.member();
  const std::size_t mark = LogLines::mark();
  const double before = world.metric("rivulet_refusals_total", {"reason=\"revoked\""});
  world.server->post_json("/v1/nodes/" + node->key.public_key().hex() + "/revoke", nlohmann::json::object());
  CHECK(node->await<message::Refused>().reason == Reason::revoked);
  node->await_end();
  world.await_metric("rivulet_refusals_total", {"reason=\"revoked\""}, before + 1);
  CHECK(LogLines::since(mark, {"node_revoked ", node->key.public_key().hex()}).size() == 1);
}

TEST_CASE("a member that falls silent is cut off", "[hostile]") {
  HostileWorld world(
      [](coordinator::ConfigFile& config) { config.server.limits.heartbeat_interval = 200ms; });
  Expected expected = expect_cut_off(world, Reason::idle);
  const auto node = world.member();
  CHECK(node->await<message::Refused>().reason == Reason::idle);
  expected.check();
}

TEST_CASE("a member that sends a byte at a time is cut off", "[hostile]") {
  HostileWorld world([](coordinator::ConfigFile& config) {
    config.server.limits.progress_window = 250ms;
    config.server.limits.progress_bytes_min = 1000;
  });
  SECTION("a byte at a time") {
    const auto node = world.member();
    Expected expected = expect_cut_off(world, Reason::too_slow);
    node->send_bytes(frame_of(64 * 1024, {}));
    drip(world.io, *node);
    REQUIRE(node->last<message::Refused>() != nullptr);
    CHECK(node->last<message::Refused>()->reason == Reason::too_slow);
    expected.check();
  }
  SECTION("an upload that stands still") {
    world.import();
    const auto node = world.member();
    const auto other = world.member();
    const auto tasks = world.round({node.get(), other.get()});
    Expected expected = expect_cut_off(world, Reason::too_slow);
    const Bytes content(48);
    UpdateHeader header = node->header_for(tasks[0], content, 10);
    header.parameter_count = 9;
    node->uploads[header.content].keeps_list = true;
    node->offer(header, content);
    CHECK(node->await<message::Refused>().reason == Reason::too_slow);
    expected.check();
  }
}

TEST_CASE("a member that asks and never reads the answers is not heard any more", "[hostile]") {
  constexpr std::size_t batch = 1 << 20;
  constexpr std::size_t batches = 48;
  HostileWorld world;
  world.import();
  const auto node = world.member();
  node->dial(world.server->listen, false);
  node->hello(world.id);
  const Bytes question =
      frame_of(encode(Message(message::Fetch{content_id_of(bytes_of("nothing")), 0, 0, true})));
  // Its welcome is not read either: until it is there, a fetch is no greeting.
  run_until(world.io, [&] {
    return world.metric("rivulet_sessions") == 1 && world.metric("rivulet_connections_unauthenticated") == 0;
  });
  for (std::size_t i = 0; i < batches; ++i) {
    Bytes bytes;
    while (bytes.size() < batch) bytes.insert(bytes.end(), question.begin(), question.end());
    node->send_bytes(std::move(bytes));
  }
  // Until it is heard no more: what it sends stays with it.
  std::uint64_t sent = 0;
  asio::steady_timer pause(world.io);
  bool stands_still = false;
  std::function<void()> look = [&] {
    pause.expires_after(500ms);
    pause.async_wait([&](const std::error_code& error) {
      if (error) return;
      stands_still = std::exchange(sent, node->bytes_sent) == node->bytes_sent;
      if (!stands_still) look();
    });
  };
  look();
  run_until(world.io, [&] { return stands_still; });
  CHECK(sent < batches * batch / 2);  // What the sockets hold, and a megabyte of answers.
  node->hang_up();
  world.complete_honest_round();
}

TEST_CASE("content that nodes may not have is not there for them", "[hostile]") {
  HostileWorld world([](coordinator::ConfigFile& config) { config.core.round.cohort = 3; });
  ToyRelease toy(world.id, world.fleet.key("offline/release.key"));
  toy.release.snapshot = SnapshotForm::int8;
  toy.body["release"] = to_base64url(
      encode(seal(world.fleet.key("offline/release.key"), Context::release, encode(toy.release))));
  world.import(toy.body);
  std::vector<std::unique_ptr<Peer>> nodes;
  std::vector<Peer*> peers;
  for (int i = 0; i < 3; ++i) {
    nodes.push_back(world.member());
    peers.push_back(nodes.back().get());
  }
  const auto tasks = world.round(peers);
  const UpdateHeader secret = peers[0]->offer(tasks[0], std::vector<float>(9, 0.125F), 10);
  CHECK(peers[0]->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  // Another's update, and even one's own.
  CHECK(peers[1]->fetch(secret.content, secret.content_bytes).empty());
  CHECK(peers[0]->fetch(secret.content, secret.content_bytes).empty());
  for (int i : {1, 2}) {
    peers[static_cast<std::size_t>(i)]->offer(tasks[static_cast<std::size_t>(i)],
                                              std::vector<float>(9, 0.125F), 10);
  }
  REQUIRE(world.ended_round().at("state") == "published");

  // The fp32 master m, which is w_0 and the mean of the deltas; what is published is coded in 8 bits.
  std::vector<float> master = toy.weights;
  for (float& x : master) x += 0.125F;
  const ByteSpan master_bytes = std::as_bytes(std::span(master));
  REQUIRE(std::filesystem::exists(world.fleet.folder / "blobs" / content_id_of(master_bytes).hex()));
  CHECK(peers[1]->fetch(content_id_of(master_bytes), master_bytes.size()).empty());
  const nlohmann::json version = world.server->get_json("/v1/versions/2");
  const auto snapshot = ContentId::from_hex(version.at("snapshot").get<std::string>());
  REQUIRE(snapshot.has_value());
  const auto bytes = version.at("snapshot_bytes").get<std::uint64_t>();
  CHECK(peers[1]->fetch(*snapshot, bytes).size() == bytes);
}
