#include "protocol/core/session.h"

#include <deque>
#include <map>
#include <memory>

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::core;
using namespace std::chrono_literals;

namespace {

Bytes random_content(std::size_t size, std::uint64_t seed) {
  Rng rng(seed);
  Bytes content(size);
  for (std::byte& b : content) b = static_cast<std::byte>(rng());
  return content;
}

/// One end: a session, what it holds, and what it has received. Parts outlive connections.
struct End {
  Limits limits;
  CreditPool credit{64 << 20};
  std::map<ContentId, Bytes> holds;
  std::map<ContentId, Bytes> parts;
  std::vector<ContentId> finished;
  std::vector<Error> failures;
  std::vector<Message> delivered;
  std::optional<CloseSession> closed;
  std::deque<Bytes> sent;
  std::unique_ptr<Session> session;
  Now now{};

  void connect(Role role) {
    closed.reset();
    sent.clear();
    session = std::make_unique<Session>(role, limits, credit, now);
  }

  void run(SessionEffects effects) {
    for (std::size_t i = 0; i < effects.size(); ++i) {
      // Answers come back as further effects, behind those that are waiting.
      SessionEffects more = std::visit([&](auto& effect) { return carry_out(effect); }, effects[i]);
      effects.insert(effects.end(), std::make_move_iterator(more.begin()),
                     std::make_move_iterator(more.end()));
    }
  }

  SessionEffects carry_out(SendFrame& frame) {
    sent.push_back(std::move(frame.frame));
    return {};
  }
  SessionEffects carry_out(Deliver& deliver) {
    delivered.push_back(std::move(deliver.message));
    return {};
  }
  SessionEffects carry_out(OpenContent& open) {
    if (!holds.contains(open.content)) return session->content_missing(open.content);
    return session->content_opened(open.content, chunk_list_of(holds[open.content]));
  }
  SessionEffects carry_out(ReadContent& read) {
    const ByteSpan data = ByteSpan(holds[read.content]).subspan(read.offset, read.size);
    return session->content_read(read.content, read.offset, copy_of(data));
  }
  SessionEffects carry_out(OpenPart& open) {
    SessionEffects effects = session->part_read(parts[open.content]);
    SessionEffects ready = session->part_ready(now);
    effects.insert(effects.end(), std::make_move_iterator(ready.begin()),
                   std::make_move_iterator(ready.end()));
    return effects;
  }
  SessionEffects carry_out(TruncatePart& truncate) {
    parts[truncate.content].resize(truncate.length);
    return {};
  }
  SessionEffects carry_out(AppendPart& append) {
    Bytes& part = parts[append.content];
    REQUIRE(part.size() == append.offset);
    part.insert(part.end(), append.data.begin(), append.data.end());
    return session->part_written(static_cast<std::uint32_t>(append.data.size()), now);
  }
  SessionEffects carry_out(FinishPart& finish) {
    finished.push_back(finish.content);
    return {};
  }
  SessionEffects carry_out(FetchFailed& failed) {
    failures.push_back(failed.error);
    return {};
  }
  SessionEffects carry_out(CloseSession& close) {
    closed = close;
    return {};
  }
};

struct Pair {
  End node;
  End coordinator;
  std::uint64_t to_node_bytes = 0;

  void connect() {
    node.connect(Role::node);
    coordinator.connect(Role::coordinator);
  }
  void open() {
    connect();
    coordinator.run(coordinator.session->send(message::TrustChain{}, coordinator.now));
    node.run(node.session->send(message::Hello{}, node.now));
    settle();
    coordinator.run(coordinator.session->send(message::Welcome{}, coordinator.now));
    settle();
    REQUIRE(node.session->open());
    REQUIRE(coordinator.session->open());
  }
  bool step() {
    bool moved = false;
    const auto pass = [&](End& from, End& to, std::uint64_t* counter) {
      if (from.sent.empty()) return;
      const Bytes frame = std::move(from.sent.front());
      from.sent.pop_front();
      if (counter != nullptr) *counter += frame.size();
      if (!to.session->closed()) to.run(to.session->on_frame(frame, to.now));
      if (from.sent.empty() && !from.session->closed()) from.run(from.session->on_writable(from.now));
      moved = true;
    };
    pass(coordinator, node, &to_node_bytes);
    pass(node, coordinator, nullptr);
    return moved;
  }
  void settle() {
    while (step()) {
    }
  }
  void advance(MonotonicTime by) {
    node.now.monotonic += by;
    coordinator.now.monotonic += by;
  }
};

}  // namespace

TEST_CASE("a stranger may say hello or enrol, and nothing else", "[core][session]") {
  End coordinator;
  coordinator.connect(Role::coordinator);
  const Message refused[] = {message::Ready{},   message::Offer{}, message::Fetch{},    message::Heartbeat{},
                             message::Welcome{}, message::Chunk{}, message::Telemetry{}};
  for (const Message& message : refused) {
    CAPTURE(name(message));
    coordinator.connect(Role::coordinator);
    coordinator.run(coordinator.session->on_frame(encode(message), coordinator.now));
    REQUIRE(coordinator.closed);
    CHECK(coordinator.closed->reason == Reason::unexpected_message);
    CHECK(coordinator.delivered.empty());
    REQUIRE(coordinator.sent.size() == 1);
    CHECK(std::get<message::Refused>(*decode_message(coordinator.sent[0])).reason ==
          Reason::unexpected_message);
  }
  coordinator.connect(Role::coordinator);
  coordinator.run(coordinator.session->on_frame(encode(Message(message::Hello{})), coordinator.now));
  CHECK(coordinator.delivered.size() == 1);
}

TEST_CASE("a node says ready once, before all that is about its work", "[core][session]") {
  Pair pair;
  pair.open();
  pair.coordinator.delivered.clear();
  const auto say = [&](const Message& message) {
    pair.coordinator.run(pair.coordinator.session->on_frame(encode(message), pair.coordinator.now));
  };
  SECTION("not twice") {
    say(message::Heartbeat{});
    say(message::Ready{});
    say(message::Telemetry{});
    REQUIRE_FALSE(pair.coordinator.closed);
    say(message::Ready{});
    CHECK(pair.coordinator.delivered.size() == 2);
  }
  SECTION("not later than its work") {
    const Message work[] = {message::Offer{}, message::Evaluation{}, message::Declined{},
                            message::Telemetry{}, message::Activation{}};
    say(work[GENERATE(0, 1, 2, 3, 4)]);
    CHECK(pair.coordinator.delivered.empty());
  }
  REQUIRE(pair.coordinator.closed);
  CHECK(pair.coordinator.closed->reason == Reason::unexpected_message);
}

TEST_CASE("strangers get small frames and little time", "[core][session]") {
  End coordinator;
  coordinator.connect(Role::coordinator);
  CHECK(coordinator.session->frame_bytes_max() == 4096);
  coordinator.run(coordinator.session->on_frame(Bytes(4097), coordinator.now));
  CHECK(coordinator.closed->reason == Reason::frame_too_large);

  coordinator.connect(Role::coordinator);
  coordinator.now.monotonic += 4999ms;
  coordinator.run(coordinator.session->on_time(coordinator.now));
  CHECK_FALSE(coordinator.closed);
  CHECK(coordinator.session->next_deadline() == MonotonicTime(5000ms));
  coordinator.now.monotonic += 1ms;
  coordinator.run(coordinator.session->on_time(coordinator.now));
  CHECK(coordinator.closed->reason == Reason::handshake_timeout);
}

TEST_CASE("silence is filled with heartbeats, and a silent peer is dead after three", "[core][session]") {
  Pair pair;
  pair.open();
  for (int i = 0; i < 10; ++i) {
    pair.advance(60s);
    pair.node.run(pair.node.session->on_time(pair.node.now));
    pair.coordinator.run(pair.coordinator.session->on_time(pair.coordinator.now));
    pair.settle();
    CHECK_FALSE(pair.node.closed);
  }
  pair.advance(180s);
  pair.coordinator.run(pair.coordinator.session->on_time(pair.coordinator.now));
  CHECK(pair.coordinator.closed->reason == Reason::idle);
}

TEST_CASE("a node keeps the pace of heartbeats that the coordinator asks for", "[core][session]") {
  Pair pair;
  pair.coordinator.limits.heartbeat_interval = 5s;
  pair.connect();
  pair.node.run(pair.node.session->on_frame(encode(Message(message::Welcome{1, {}, 5})), pair.node.now));
  CHECK(pair.node.session->next_deadline() == MonotonicTime(5s));
  pair.advance(5s);
  pair.node.run(pair.node.session->on_time(pair.node.now));
  REQUIRE(pair.node.sent.size() == 1);
  CHECK(std::holds_alternative<message::Heartbeat>(*decode_message(pair.node.sent[0])));
}

TEST_CASE("content goes in both directions at once", "[core][session]") {
  Pair pair;
  const Bytes down = random_content(3 * chunk_bytes + 17, 1);
  const Bytes up = random_content(2 * chunk_bytes, 2);
  pair.coordinator.holds[content_id_of(down)] = down;
  pair.node.holds[content_id_of(up)] = up;
  pair.open();
  pair.node.run(pair.node.session->fetch(content_id_of(down), down.size(), pair.node.now));
  pair.coordinator.run(pair.coordinator.session->fetch(content_id_of(up), up.size(), pair.coordinator.now));
  pair.settle();
  REQUIRE(pair.node.finished == std::vector{content_id_of(down)});
  REQUIRE(pair.coordinator.finished == std::vector{content_id_of(up)});
  CHECK(pair.node.parts[content_id_of(down)] == down);
  CHECK(pair.coordinator.parts[content_id_of(up)] == up);
  CHECK(pair.coordinator.credit.available() == 64 << 20);
}

TEST_CASE("a fetch that is stopped takes no more bytes, and the session goes on", "[core][session]") {
  Pair pair;
  const Bytes unwanted = random_content(3 * chunk_bytes, 1);
  const Bytes wanted = random_content(chunk_bytes + 5, 2);
  const ContentId id = content_id_of(unwanted);
  pair.node.holds[id] = unwanted;
  pair.node.holds[content_id_of(wanted)] = wanted;
  pair.open();
  End& coordinator = pair.coordinator;
  coordinator.run(coordinator.session->fetch(id, unwanted.size(), coordinator.now));
  const int steps = GENERATE(0, 1, 2, 3, 5, 9);
  for (int i = 0; i < steps; ++i) pair.step();
  coordinator.run(coordinator.session->stop_fetch(content_id_of(wanted)));  // Another one: nothing happens.
  coordinator.run(coordinator.session->stop_fetch(id));
  const std::size_t length = coordinator.parts[id].size();
  pair.settle();
  CHECK(coordinator.parts[id].size() == length);
  CHECK(coordinator.finished.empty());
  CHECK(coordinator.failures.empty());
  CHECK(coordinator.credit.available() == 64 << 20);
  coordinator.run(coordinator.session->fetch(content_id_of(wanted), wanted.size(), coordinator.now));
  pair.settle();
  CHECK(coordinator.finished == std::vector{content_id_of(wanted)});
  CHECK_FALSE(coordinator.closed);
}

TEST_CASE("a transfer that is cut fifty times costs hardly more than one that is not", "[core][session]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 5));
  CAPTURE(seed);
  Rng rng(seed);
  Pair pair;
  const Bytes content = random_content(20'000'000, seed);
  const ContentId id = content_id_of(content);
  pair.coordinator.holds[id] = content;
  int cuts = 0;
  while (pair.node.finished.empty()) {
    pair.open();
    pair.node.run(pair.node.session->fetch(id, content.size(), pair.node.now));
    if (cuts == 50) {
      pair.settle();
      break;
    }
    for (std::uint64_t steps = uniform_below(rng, 14); steps > 0; --steps) pair.step();
    // The bytes of frames that were on their way when the connection broke are lost, but did cross.
    for (const Bytes& frame : pair.coordinator.sent) pair.to_node_bytes += frame.size();
    ++cuts;
  }
  REQUIRE(pair.node.finished.size() == 1);
  CHECK(pair.node.parts[id] == content);
  CHECK(static_cast<double>(pair.to_node_bytes) <= 1.1 * static_cast<double>(content.size()));
}

TEST_CASE("a part that was torn is cut back to the last good chunk", "[core][session]") {
  Pair pair;
  const Bytes content = random_content(3 * chunk_bytes, 3);
  const ContentId id = content_id_of(content);
  pair.coordinator.holds[id] = content;
  Bytes torn(content.begin(), content.begin() + 2 * chunk_bytes + 1000);
  torn[chunk_bytes + 3] ^= std::byte{8};
  pair.node.parts[id] = torn;
  pair.open();
  pair.node.run(pair.node.session->fetch(id, content.size(), pair.node.now));
  pair.settle();
  REQUIRE(pair.node.finished.size() == 1);
  CHECK(pair.node.parts[id] == content);
}

TEST_CASE("a peer that sends what nobody asked for is cut off", "[core][session]") {
  Pair pair;
  const Bytes content = random_content(100'000, 4);
  const ContentId id = content_id_of(content);
  pair.open();
  pair.node.run(pair.node.session->fetch(id, content.size(), pair.node.now));
  pair.node.sent.clear();
  const auto receive = [&](Message message) {
    pair.node.run(pair.node.session->on_frame(encode(message), pair.node.now));
  };

  SECTION("a list that does not hash to the id") {
    receive(message::ContentList{id, chunk_list_of(random_content(100'000, 5))});
    CHECK(pair.node.closed->reason == Reason::corrupt_content);
  }
  SECTION("more bytes than were announced") {
    const Bytes larger = random_content(200'000, 6);
    pair.node.run(pair.node.session->fetch(content_id_of(larger), 100'000, pair.node.now));
    receive(message::ContentList{content_id_of(larger), chunk_list_of(larger)});
    REQUIRE(pair.node.failures.size() == 1);
    CHECK(pair.node.failures[0].code == Errc::too_large);
    CHECK_FALSE(pair.node.closed);
  }
  SECTION("a changed chunk") {
    receive(message::ContentList{id, chunk_list_of(content)});
    Bytes first(content.begin(), content.begin() + 65536);
    first[0] ^= std::byte{1};
    receive(message::Chunk{id, 0, first});
    receive(message::Chunk{id, 65536, Bytes(content.begin() + 65536, content.end())});
    REQUIRE(pair.node.closed);
    CHECK(pair.node.closed->reason == Reason::corrupt_content);
    CHECK(pair.node.parts[id].empty());
    CHECK(pair.node.finished.empty());
  }
  SECTION("a chunk out of order, or beyond the credit") {
    receive(message::ContentList{id, chunk_list_of(content)});
    receive(message::Chunk{id, 1, Bytes(10)});
    CHECK(pair.node.closed->reason == Reason::corrupt_content);
  }
  SECTION("more in one chunk than a sender may") {
    receive(message::ContentList{id, chunk_list_of(content)});
    const auto largest = content.begin() + 64 * 1024;
    const bool too_large = GENERATE(false, true);
    receive(message::Chunk{id, 0, Bytes(content.begin(), largest + (too_large ? 1 : 0))});
    REQUIRE(pair.node.closed.has_value() == too_large);
    if (!too_large) return;
    CHECK(pair.node.closed->reason == Reason::corrupt_content);
    CHECK(pair.node.parts[id].empty());
  }
  SECTION("content that it does not have") {
    receive(message::NoContent{id});
    REQUIRE(pair.node.failures.size() == 1);
    CHECK(pair.node.failures[0].code == Errc::not_found);
    CHECK_FALSE(pair.node.closed);
  }
}

TEST_CASE("a transfer that hardly moves is cut, one that waits for our credit is not", "[core][session]") {
  Pair pair;
  const Bytes content = random_content(chunk_bytes, 7);
  const ContentId id = content_id_of(content);
  pair.open();
  const auto tick = [&](MonotonicTime by) {
    pair.advance(by);
    pair.coordinator.run(pair.coordinator.session->on_time(pair.coordinator.now));
  };
  const auto receive = [&](Message message) {
    pair.coordinator.run(pair.coordinator.session->on_frame(encode(message), pair.coordinator.now));
  };
  pair.coordinator.run(pair.coordinator.session->fetch(id, content.size(), pair.coordinator.now));
  receive(message::ContentList{id, chunk_list_of(content)});

  SECTION("a trickle") {
    for (std::uint64_t at = 0; at < 29 * 1024; at += 1024) {
      receive(message::Chunk{
          id, at,
          Bytes(content.begin() + static_cast<long>(at), content.begin() + static_cast<long>(at) + 1024)});
      tick(1s);
    }
    CHECK_FALSE(pair.coordinator.closed);
    tick(1s);
    REQUIRE(pair.coordinator.closed);
    CHECK(pair.coordinator.closed->reason == Reason::too_slow);
  }
  SECTION("no credit left in the pool") {
    const std::uint64_t taken = pair.coordinator.credit.acquire(64 << 20, 1);
    const Bytes other = random_content(chunk_bytes, 8);
    pair.coordinator.run(
        pair.coordinator.session->fetch(content_id_of(other), other.size(), pair.coordinator.now));
    const std::uint64_t freed = pair.coordinator.credit.acquire(64 << 20, 1);
    receive(message::ContentList{content_id_of(other), chunk_list_of(other)});
    for (int i = 0; i < 4; ++i) {
      tick(29s);
      // It looks for credit now and then, and does not spin.
      CHECK(pair.coordinator.session->next_deadline() == pair.coordinator.now.monotonic + 50ms);
      receive(message::Heartbeat{});
    }
    CHECK_FALSE(pair.coordinator.closed);
    pair.coordinator.sent.clear();
    pair.coordinator.credit.release(taken + freed);
    tick(100ms);
    REQUIRE(pair.coordinator.sent.size() == 1);
    const auto fetch = std::get<message::Fetch>(*decode_message(pair.coordinator.sent[0]));
    CHECK(fetch.credit == pair.coordinator.limits.transfer_window);
  }
}

TEST_CASE("random bytes end a session and never reach the logic behind", "[core][session]") {
  Rng rng(11);
  for (int trial = 0; trial < 2000; ++trial) {
    End end;
    end.connect(trial % 2 == 0 ? Role::coordinator : Role::node);
    Bytes noise(uniform_below(rng, 200));
    for (std::byte& b : noise) b = static_cast<std::byte>(rng());
    end.run(end.session->on_frame(noise, end.now));
    REQUIRE(end.closed);
    CHECK(end.closed->reason == Reason::malformed_frame);
    CHECK(end.delivered.empty());
  }
}
