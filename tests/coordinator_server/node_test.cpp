#include <map>

#include "coordinator/core/coordinator.h"
#include "coordinator/core/records.h"
#include "link/connection.h"
#include "link/system_clock.h"
#include "models/package/version.h"
#include "protocol/codec/codec.h"
#include "protocol/documents.h"
#include "protocol/token.h"
#include "storage/memory_disk.h"
#include "storage/rocksdb_store.h"
#include "tests/coordinator_server/server_rig.h"
#include "tests/transport/fixture.h"

using namespace rivulet;
using nlohmann::json;

namespace {

/// A node as far as the wire shows it: greets, gets ready, and remembers what it was told.
class TestNode final : public ConnectionUser {
 public:
  TestNode(asio::io_context& io, unsigned char number)
      : io_(io), key(key_of(number)), tls_(context_of(key)), blobs(make_memory_blob_store(disk_)) {}
  ~TestNode() override { hang_up(); }

  /// Dials, and says `greeting` once the trust document is there.
  void dial(const Endpoint& server, Message greeting) {
    REQUIRE(ended);
    ended = false;
    heard.clear();
    greeting_ = std::move(greeting);
    asio::co_spawn(io_, visit(server), [this](const std::exception_ptr& bug) {
      REQUIRE(!bug);
      connection_ = nullptr;
      ended = true;
    });
  }
  void hello(const Endpoint& server, const FleetId& fleet) {
    dial(server, message::Hello{1, 1, fleet, "test"});
  }
  void enrol(const Endpoint& server, const FleetId& fleet, const JoinSecret& secret) {
    dial(server, message::Enrol{1, 1, fleet, "test", secret});
  }
  void hang_up() {
    if (connection_ != nullptr) connection_->close(Reason::none, "done");
    run_until(io_, [&] { return ended; });
  }
  void send(Message message) { connection_->send(std::move(message)); }
  void fetch(const ContentId& content) { connection_->fetch(content, 1 << 20); }

  /// What it heard of one kind, the latest; null if nothing.
  template <typename T>
  const T* last() const {
    for (auto at = heard.rbegin(); at != heard.rend(); ++at) {
      if (const auto* message = std::get_if<T>(&*at)) return message;
    }
    return nullptr;
  }
  template <typename T>
  const T& await() {
    run_until(io_, [&] { return last<T>() != nullptr; });
    return *last<T>();
  }

  /// Answers a task with this delta, as if it were trained.
  UpdateHeader offer(const message::Task& task, std::vector<float> delta, std::uint64_t samples,
                     const FleetId& fleet) {
    Rng rng(1);
    const Bytes content = encode(Codec::fp32, delta, rng).value();
    const auto base = decode_version(task.base.payload).value();
    UpdateHeader header{.fleet = fleet,
                        .task = task.id,
                        .node = key.public_key(),
                        .base_version = base.version,
                        .base_hash = base.weights_hash,
                        .codec = task.training.codec,
                        .parameter_count = delta.size(),
                        .sample_count = samples,
                        .loss_first = 1,
                        .loss_last = 0.5,
                        .content = content_id_of(content),
                        .content_bytes = content.size(),
                        .time = system_now().utc};
    REQUIRE(blobs->put(header.content, content).has_value());
    send(message::Offer{seal(key, Context::update, encode(header))});
    return header;
  }

  void deliver(Connection& connection, Message message) override {
    if (std::holds_alternative<message::TrustChain>(message)) connection.send(greeting_);
    if (std::holds_alternative<message::Welcome>(message)) connection.send(ready);
    heard.push_back(std::move(message));
  }
  void finish_fetch(Connection&, const ContentId& content) override {
    REQUIRE(blobs->finish_part(content).has_value());
    fetched.push_back(content);
  }
  void fetch_failed(Connection&, const ContentId&, Error error) override {
    fetch_errors.push_back(error.detail);
  }
  std::optional<ChunkList> chunk_list(const ContentId& content) override {
    auto list = hash_blob(*blobs, content);
    return list ? std::optional(*list) : std::nullopt;
  }
  void count_sent(std::uint64_t) override {}
  void count_received(std::uint64_t) override {}

 private:
  asio::awaitable<void> visit(Endpoint server) {
    const auto executor = co_await asio::this_coro::executor;
    auto stream = co_await connect(executor, server, tls_, deadline_in(std::chrono::seconds(10)));
    REQUIRE(stream.has_value());
    Connection connection(std::move(*stream), core::Role::node, limits_, credit_, *blobs, parts_, *this);
    connection_ = &connection;
    co_await connection.run();
    connection_ = nullptr;
  }

  asio::io_context& io_;
  MemoryDisk disk_;
  Limits limits_;
  core::CreditPool credit_{64 << 20};
  VerifiedParts parts_;
  Message greeting_;
  Connection* connection_ = nullptr;

 public:
  SecretKey key;

 private:
  TlsContext tls_;

 public:
  std::unique_ptr<BlobStore> blobs;
  message::Ready ready{0, 0, 10, 0, {}, {}};
  std::vector<Message> heard;
  std::vector<ContentId> fetched;
  std::vector<std::string> fetch_errors;
  bool ended = true;
};

JoinSecret new_secret(RunningServer& server, int uses) {
  const json reply = server.post_json("/v1/tokens", {{"uses", uses}});
  return parse_token(reply.at("token").get<std::string>())->secret;
}

/// A node that is a member and connected.
void join(TestNode& node, RunningServer& server, const JoinSecret& secret) {
  node.enrol(server.listen, fleet_of(server), secret);
  CHECK(node.await<message::Enrolled>().name == "river");
  node.hang_up();
  node.hello(server.listen, fleet_of(server));
  node.await<message::Welcome>();
}

void refused(asio::io_context& io, TestNode& node, Reason reason) {
  const message::Refused& refusal = node.await<message::Refused>();
  CHECK(name(refusal.reason) == name(reason));
  CHECK_FALSE(refusal.detail.empty());
  run_until(io, [&] { return node.ended; });
}

double refusals(RunningServer& server, const char* reason) {
  return server.metric("rivulet_refusals_total{reason=\"" + std::string(reason) + "\"}");
}

}  // namespace

TEST_CASE("strangers are turned away with a reason, and counted", "[coordinator][server]") {
  const FoundedFleet fleet;
  Digest expired_hash;
  const JoinSecret expired = JoinSecret::from_bytes(Bytes(JoinSecret::size, std::byte{5})).value();
  {
    // A token of yesterday; the API makes none.
    auto store = open_rocksdb_store(fleet.folder / "store", coordinator::families);
    REQUIRE(store.has_value());
    expired_hash = sha256(expired.span());
    const coordinator::TokenRecord token{expired_hash, system_now().utc - std::chrono::days(2),
                                         system_now().utc - std::chrono::days(1)};
    const Put put{"tokens", copy_of(expired_hash.span()), coordinator::record_bytes(to_json(token))};
    REQUIRE((*store)->commit({put}, Durability::synced).has_value());
  }
  RunningServer server(fleet);
  asio::io_context io;
  const FleetId id = fleet_of(server);
  TestNode node(io, 1);

  node.hello(server.listen, id);
  refused(io, node, Reason::unknown_key);
  CHECK(refusals(server, "unknown_key") == 1);
  node.hello(server.listen, FleetId{});
  refused(io, node, Reason::wrong_fleet);
  node.enrol(server.listen, id, JoinSecret{});
  refused(io, node, Reason::unknown_token);
  CHECK(refusals(server, "unknown_token") == 1);
  node.enrol(server.listen, id, expired);
  refused(io, node, Reason::expired_token);
  CHECK(refusals(server, "expired_token") == 1);
  node.dial(server.listen, message::Hello{7, 9, id, "from the future"});
  refused(io, node, Reason::unsupported_protocol);
  node.dial(server.listen, message::Ready{});
  refused(io, node, Reason::unexpected_message);
  CHECK(server.get_json("/v1/nodes").empty());
}

TEST_CASE("a node enrols once for each use of a token, and is welcomed", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  asio::io_context io;
  const FleetId id = fleet_of(server);
  const JoinSecret secret = new_secret(server, 1);
  TestNode node(io, 1);
  TestNode late(io, 2);
  join(node, server, secret);
  const auto time = decode_signed_time(node.last<message::Welcome>()->time.payload);
  REQUIRE(time.has_value());
  CHECK(verify_envelope(fleet.key("coordinator.key").public_key(), Context::time,
                        node.last<message::Welcome>()->time)
            .has_value());
  CHECK(time->fleet == id);
  CHECK(abs(time->utc - system_now().utc) < std::chrono::minutes(1));

  late.enrol(server.listen, id, secret);
  refused(io, late, Reason::used_token);
  const json nodes = server.get_json("/v1/nodes");
  REQUIRE(nodes.size() == 1);
  CHECK(nodes[0].at("key") == node.key.public_key().hex());
  CHECK(nodes[0].at("connected") == true);
  CHECK(server.metric("rivulet_nodes{state=\"active\"}") == 1);
  CHECK(server.metric("rivulet_sessions") == 1);

  // Enrolling again with the same token is no second use.
  node.hang_up();
  node.enrol(server.listen, id, secret);
  node.await<message::Enrolled>();
}

TEST_CASE("the operator's word about a node counts at once", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  asio::io_context io;
  TestNode node(io, 1);
  join(node, server, new_secret(server, 1));
  const std::string path = "/v1/nodes/" + node.key.public_key().hex().substr(0, 8);
  CHECK(server.post_json(path + "/tag", {{"tags", {"lab"}}}).at("tags") == json{"lab"});
  CHECK(server.post_json(path + "/quarantine", json::object()).at("state") == "quarantined");
  CHECK(server.metric("rivulet_nodes{state=\"active\"}") == 0);
  CHECK(server.metric("rivulet_sessions") == 0);  // Those of active nodes alone, so that the two compare.
  CHECK(server.post_json(path + "/release", json::object()).at("state") == "active");
  CHECK(server.metric("rivulet_sessions") == 1);
  CHECK(server.post_json(path + "/revoke", json::object()).at("state") == "revoked");
  refused(io, node, Reason::revoked);
  node.hello(server.listen, fleet_of(server));
  refused(io, node, Reason::revoked);
  REQUIRE(server.stop().has_value());
  RunningServer restarted(fleet);
  CHECK(restarted.get_json("/v1/nodes")[0].at("state") == "revoked");
  CHECK(restarted.get_json("/v1/nodes")[0].at("tags") == json{"lab"});
}

TEST_CASE("a round brings two updates into a version by their sample counts", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  asio::io_context io;
  const FleetId id = fleet_of(server);
  const ToyRelease toy(id, fleet.key("offline/release.key"));
  server.post_json("/v1/releases", toy.body);
  const JoinSecret secret = new_secret(server, 2);
  TestNode one(io, 1);
  TestNode other(io, 2);
  join(one, server, secret);
  join(other, server, secret);
  const auto manifest = decode_version(one.await<message::Assignment>().manifest.payload).value();
  one.fetch(manifest.snapshot);
  run_until(io, [&] { return !one.fetched.empty(); });
  CHECK(one.blobs->read_all(manifest.snapshot).value() == copy_of(std::as_bytes(std::span(toy.weights))));

  auto round = std::async(std::launch::async,
                          [&] { return server.post_json("/v1/rounds", {{"count", 1}, {"wait", true}}); });
  const message::Task first = one.await<message::Task>();
  const message::Task second = other.await<message::Task>();
  CHECK(first.id != second.id);
  // (10 * 0.25 + 30 * -0.5) / 40 = -0.3125
  const UpdateHeader update = one.offer(first, std::vector<float>(9, 0.25F), 10, id);
  CHECK(one.await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  one.heard.clear();
  one.send(message::Offer{seal(one.key, Context::update, encode(update))});
  CHECK(one.await<message::Receipt>().outcome !=
        message::ReceiptOutcome::refused);  // The recorded one again.
  other.offer(second, std::vector<float>(9, -0.5F), 30, id);
  const message::Verdict verdict = other.await<message::Verdicts>().entries.at(0);
  CHECK(verdict.outcome == message::VerdictOutcome::aggregated);
  CHECK(verdict.version == 2);

  const json ended = round.get();
  REQUIRE(ended.at("rounds").size() == 1);
  const json summary = ended.at("rounds")[0];
  CHECK(summary.at("state") == "published");
  CHECK(summary.at("accepted") == 2);
  CHECK(summary.at("version") == 2);
  CHECK(summary.at("upload_bytes") == 2 * encoded_bytes(Codec::fp32, 9));
  std::vector<float> wanted = toy.weights;
  for (float& x : wanted) x -= 0.3125F;
  const HttpReply weights = server.get("/v1/versions/2/weights");
  CHECK(weights.body == text_of(std::as_bytes(std::span(wanted))));
  CHECK(server.metric("rivulet_rounds_total{result=\"published\"}") == 1);
  CHECK(server.metric("rivulet_updates_total{reason=\"\",receipt=\"accepted\"}") >= 2);
  const auto expires = toy.release.limits.expires.time_since_epoch();
  CHECK(server.metric("rivulet_release_expires_timestamp_seconds") ==
        Approx(std::chrono::duration<double>(expires).count()).epsilon(1e-9));
  CHECK(server.get_json("/v1/status").at("release").at("expired") == false);

  // All of it is durable: a server that starts on the folder knows the version, and who serves it.
  REQUIRE(server.stop().has_value());
  CHECK(one.last<message::Backoff>() == nullptr);  // Not yet read …
  run_until(io, [&] { return one.ended && other.ended; });
  REQUIRE(one.last<message::Backoff>() != nullptr);
  CHECK(one.last<message::Backoff>()->reason == Reason::shutting_down);
  RunningServer restarted(fleet);
  CHECK(restarted.get("/v1/versions/2/weights").body == weights.body);
  CHECK(restarted.get_json("/v1/rounds").at(0).at("state") == "published");
}

TEST_CASE("content that is no good is refused, and its round goes on without it", "[coordinator][server]") {
  const FoundedFleet fleet;
  auto config = fleet.config();
  config.core.round.updates_min = 1;
  RunningServer server(fleet, config);
  asio::io_context io;
  const FleetId id = fleet_of(server);
  server.post_json("/v1/releases", ToyRelease(id, fleet.key("offline/release.key")).body);
  const JoinSecret secret = new_secret(server, 2);
  TestNode honest(io, 1);
  TestNode liar(io, 2);
  join(honest, server, secret);
  join(liar, server, secret);
  auto round =
      std::async(std::launch::async, [&] { return server.post_json("/v1/rounds", {{"wait", true}}); });
  const message::Task task = liar.await<message::Task>();

  // A header that is in order, for a delta that holds what is no number.
  const auto base = decode_version(task.base.payload).value();
  Rng rng(1);
  Bytes junk = encode(Codec::fp32, std::vector<float>(9), rng).value();
  std::fill(junk.end() - 4, junk.end(), std::byte{0xff});
  UpdateHeader header{.fleet = id,
                      .task = task.id,
                      .node = liar.key.public_key(),
                      .base_version = base.version,
                      .base_hash = base.weights_hash,
                      .codec = task.training.codec,
                      .parameter_count = 9,
                      .sample_count = 10,
                      .loss_first = 1,
                      .loss_last = 1,
                      .content = content_id_of(junk),
                      .content_bytes = junk.size(),
                      .time = system_now().utc};
  REQUIRE(liar.blobs->put(header.content, junk).has_value());
  liar.send(message::Offer{seal(liar.key, Context::update, encode(header))});
  const message::Receipt receipt = liar.await<message::Receipt>();
  CHECK(receipt.outcome == message::ReceiptOutcome::refused);
  CHECK(name(receipt.reason) == name(Reason::not_finite));

  honest.offer(honest.await<message::Task>(), std::vector<float>(9, 1.0F), 10, id);
  run_until(io, [&] { return round.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  const json summary = round.get().at("rounds").at(0);
  CHECK(summary.at("state") == "published");
  CHECK(summary.at("accepted") == 1);
  CHECK(summary.at("refused") == 1);
}

TEST_CASE("a round whose nodes all decline is over at once, and says why", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  asio::io_context io;
  const FleetId id = fleet_of(server);
  server.post_json("/v1/releases", ToyRelease(id, fleet.key("offline/release.key")).body);
  const JoinSecret secret = new_secret(server, 2);
  TestNode one(io, 1);
  TestNode other(io, 2);
  join(one, server, secret);
  join(other, server, secret);
  auto round =
      std::async(std::launch::async, [&] { return server.post_json("/v1/rounds", {{"wait", true}}); });
  one.send(message::Declined{one.await<message::Task>().id, Reason::training_failed, "out of memory"});
  // Not even a node whose text would forge a log line holds the round up: it is cut off, and declines anew.
  const TaskId task = other.await<message::Task>().id;
  other.send(message::Declined{task, Reason::too_few_samples, "none\nlevel=error"});
  run_until(io, [&] { return other.ended; });
  CHECK(other.await<message::Refused>().reason == Reason::malformed_frame);
  other.hello(server.listen, id);
  CHECK(other.await<message::Task>().id == task);
  other.send(message::Declined{task, Reason::too_few_samples, "none"});
  run_until(io, [&] { return round.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  const json summary = round.get().at("rounds").at(0);
  CHECK(summary.at("state") == "failed");
  CHECK(summary.at("declined") == 2);
  CHECK(
      summary.at("reason").get<std::string>().ends_with("; declined: 1 training_failed, 1 too_few_samples"));
  CHECK(server.metric("rivulet_tasks_declined_total{reason=\"training_failed\",type=\"train\"}") == 1);
  CHECK(server.metric("rivulet_tasks_declined_total{reason=\"too_few_samples\",type=\"train\"}") == 1);
}
