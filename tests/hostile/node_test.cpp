#include <deque>

#include "link/connection.h"
#include "link/system_clock.h"
#include "node/core/agent.h"
#include "node/core/enrolment.h"
#include "node/core/records.h"
#include "node/daemon/metrics.h"
#include "storage/memory_disk.h"
#include "tests/node_core/fleet.h"
#include "tests/transport/fixture.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;
using node::testing::Fleet;
using node::testing::today;

/// Says to whoever comes what a test wants, and counts what it hears.
class FalseCoordinator {
 public:
  FalseCoordinator(asio::io_context& io, const SecretKey& key) : io_(io), server_(io, key, {}) {}
  ~FalseCoordinator() { hang_up(); }
  FalseCoordinator(const FalseCoordinator&) = delete;
  FalseCoordinator& operator=(const FalseCoordinator&) = delete;

  [[nodiscard]] std::uint16_t port() const { return server_.port(); }
  /// Sends this first, and again when it is asked for the chain.
  message::TrustChain chain;
  std::optional<message::Welcome> welcome;
  std::vector<Message> heard;
  [[nodiscard]] std::uint64_t bytes_heard() const { return stream().bytes_in(); }

  /// Waits for the node, and talks until either ends.
  void accept() {
    run_until(io_, [&] { return server_.accepted.size() == 1; });
    asio::co_spawn(io_, talk(), [this](const std::exception_ptr& bug) {
      REQUIRE(!bug);
      over = true;
    });
  }
  void send(const Message& message) {
    outbox_.push_back(encode(message));
    bool done = false;
    asio::co_spawn(io_, write(outbox_.back()), [&](const std::exception_ptr&) { done = true; });
    run_until(io_, [&] { return done; });
  }
  void hang_up() {
    if (server_.accepted.empty() || over) return;
    stream().cancel();
    run_until(io_, [&] { return over; });
  }
  bool over = false;

 private:
  [[nodiscard]] FrameStream& stream() const { return *server_.accepted.front().stream; }
  asio::awaitable<void> write(const Bytes& body) {
    const ByteSpan bytes(body);
    std::ignore = co_await stream().write_frame(bytes);
  }
  asio::awaitable<void> talk() {
    const Bytes first = encode(Message(chain));
    co_await write(first);
    while (true) {
      const auto frame = co_await stream().read_frame(128 * 1024);
      if (!frame) break;
      auto message = decode_message(*frame);
      REQUIRE(message.has_value());
      const bool asks = std::holds_alternative<message::TrustRequest>(*message);
      const bool greets = std::holds_alternative<message::Hello>(*message);
      heard.push_back(std::move(*message));
      if (asks) co_await write(first);
      if (!greets || !welcome) continue;
      const Bytes answer = encode(Message(*welcome));
      co_await write(answer);
    }
    co_await stream().close();
  }

  asio::io_context& io_;
  Server server_;
  std::deque<Bytes> outbox_;
};

/// The link of a node: the real agent, or the real enrolment, over a real connection.
class NodeLink final : public ConnectionUser {
 public:
  using Step = std::function<std::vector<node::Effect>(const node::Event& event, Now now)>;

  NodeLink(asio::io_context& io, const SecretKey& key, Step step)
      : io_(io), tls_(context_of(key)), blobs_(make_memory_blob_store(disk_)), step_(std::move(step)) {}
  ~NodeLink() override {
    if (connection_) connection_->close(Reason::none, "done");
    run_until(io_, [&] { return over; });
  }

  static Now now() { return {system_now().monotonic, today}; }
  void dial(std::uint16_t port) {
    over = false;
    asio::co_spawn(io_, visit(port), [this](const std::exception_ptr& bug) {
      REQUIRE(!bug);
      over = true;
    });
  }
  void tell(const node::Event& event) {
    for (node::Effect& effect : step_(event, now())) {
      if (auto* send = std::get_if<node::effect::Send>(&effect)) connection_->send(std::move(send->message));
      if (auto* close = std::get_if<node::effect::Disconnect>(&effect))
        connection_->close(close->reason, close->detail);
      if (auto* notice = std::get_if<node::effect::Notice>(&effect)) {
        notices.push_back(*notice);
        metrics.noticed(*notice);
      }
      if (std::holds_alternative<node::effect::Fetch>(effect)) ++fetches;
    }
  }
  [[nodiscard]] bool noticed(const std::string& event, const std::string& detail = "") const {
    for (const auto& notice : notices) {
      if (notice.event != event) continue;
      for (const auto& [key, value] : notice.fields) {
        if (value.find(detail) != std::string::npos) return true;
      }
    }
    return false;
  }

  /// How often this was counted, in the text that Prometheus reads.
  [[nodiscard]] double counted(const std::string& event, const std::string& reason) const {
    const std::string line =
        "rivulet_node_refusals_total{event=\"" + event + "\",reason=\"" + reason + "\"} ";
    const std::string text = metrics.text();
    const std::size_t at = text.find(line);
    return at == std::string::npos ? 0 : std::stod(text.substr(at + line.size()));
  }

  node::Metrics metrics;
  std::vector<node::effect::Notice> notices;
  int fetches = 0;
  bool over = true;

 private:
  asio::awaitable<void> visit(std::uint16_t port) {
    const Endpoint endpoint{"127.0.0.1", port};
    auto connecting = connect(io_.get_executor(), endpoint, tls_, deadline_in(10s));
    auto stream = co_await std::move(connecting);
    REQUIRE(stream.has_value());
    const PublicKey peer = (*stream)->peer_key();
    ConnectionUser& self = *this;
    connection_ = std::make_unique<Connection>(std::move(*stream), core::Role::node, limits_, credit_,
                                               *blobs_, parts_, self);
    tell(node::event::Connected{1, peer});
    co_await connection_->run();
    tell(node::event::Disconnected{1, {Errc::disconnected, connection_->end().detail}});
  }
  void deliver(Connection&, Message message) override {
    tell(node::event::MessageReceived{1, std::move(message)});
  }
  void finish_fetch(Connection&, const ContentId&) override {}
  void fetch_failed(Connection&, const ContentId&, Error) override {}
  std::optional<ChunkList> chunk_list(const ContentId&) override { return std::nullopt; }
  void count_sent(std::uint64_t) override {}
  void count_received(std::uint64_t) override {}

  asio::io_context& io_;
  TlsContext tls_;
  MemoryDisk disk_;
  std::unique_ptr<BlobStore> blobs_;
  Limits limits_;
  core::CreditPool credit_{1 << 20};
  VerifiedParts parts_;
  Step step_;
  std::unique_ptr<Connection> connection_;
};

/// The agent of a node that joined `fleet` and knows trust document 2.
node::State member_of(const Fleet& fleet) {
  node::Config config;
  config.node = fleet.node.public_key();
  config.root = fleet.root.public_key();
  config.software = "test 1";
  const std::vector<Put> records{node::record_of(fleet.document(2))};
  auto state = node::recover(config, 1, records);
  REQUIRE(state.has_value());
  return std::move(*state);
}

NodeLink::Step stepping(node::State& state) {
  return [&state](const node::Event& event, Now now) { return node::step(state, event, now).effects; };
}

struct Lie {
  const char* what;
  std::function<SignedTrust(const Fleet& fleet)> document;
  const char* why;             ///< In what the node says about it.
  bool asks_for_more = false;  ///< Whether the node asks for the whole chain before it gives up.
  bool for_members_only = false;
};

std::vector<Lie> lies() {
  const auto changed = [](auto change) {
    return [change](const Fleet& fleet) {
      TrustDocument document = fleet.document(3);
      change(document);
      return sign_trust(document, fleet.root);
    };
  };
  return {
      {"another root",
       [](const Fleet& fleet) {
         const SecretKey stranger = node::testing::key_of(66);
         TrustDocument document = fleet.document(3);
         document.root = stranger.public_key();
         return sign_trust(document, stranger);
       },
       "is not signed by root key", true},
      {"our root's name under another's signature",
       [](const Fleet& fleet) {
         const SecretKey stranger = node::testing::key_of(66);
         SignedTrust trust = sign_trust(fleet.document(3), stranger);
         trust.signatures[0].key = fleet.root.public_key();
         return trust;
       },
       "is not signed by root key"},
      {"our root's signature on other words",
       [](const Fleet& fleet) {
         SignedTrust trust = sign_trust(fleet.document(3), fleet.root);
         TrustDocument document = fleet.document(3);
         document.expires += 24h;
         trust.payload = encode(document);
         return trust;
       },
       "is not signed by root key"},
      {"our root's signature in another context",
       [](const Fleet& fleet) {
         SignedTrust trust = sign_trust(fleet.document(3), fleet.root);
         trust.signatures[0].signature = sign_payload(fleet.root, Context::release, trust.payload);
         return trust;
       },
       "is not signed by root key"},
      {"an expired document", changed([](TrustDocument& document) { document.expires = today - 1s; }),
       "expired at"},
      {"a coordinator that is not the peer", changed([](TrustDocument& document) {
         document.coordinator = node::testing::key_of(67).public_key();
       }),
       "names coordinator"},
      {"another fleet", changed([](TrustDocument& document) { document.fleet = {}; }), "of another fleet"},
      {"an older document", [](const Fleet& fleet) { return sign_trust(fleet.document(1), fleet.root); },
       "rolled back", false, true},
      {"a second document 2",
       [](const Fleet& fleet) {
         TrustDocument document = fleet.document(2);
         document.expires += 24h;
         return sign_trust(document, fleet.root);
       },
       "two different trust documents", false, true},
  };
}

/// Nothing but the question for the whole chain, which tells nothing.
void check_silence(const FalseCoordinator& coordinator, const Lie& lie) {
  if (!lie.asks_for_more) {
    CHECK(coordinator.bytes_heard() == 0);
    return;
  }
  REQUIRE(coordinator.heard.size() == 1);
  CHECK(std::holds_alternative<message::TrustRequest>(coordinator.heard[0]));
  CHECK(coordinator.bytes_heard() == 4 + encode(coordinator.heard[0]).size());
}

}  // namespace

TEST_CASE("a member says nothing to a coordinator that its fleet's root does not vouch for",
          "[hostile][node]") {
  const Fleet fleet;
  for (const Lie& lie : lies()) {
    CAPTURE(lie.what);
    asio::io_context io;
    FalseCoordinator coordinator(io, fleet.coordinator);
    coordinator.chain.documents = {lie.document(fleet)};
    node::State state = member_of(fleet);
    std::ignore = node::start(state, NodeLink::now());
    NodeLink link(io, fleet.node, stepping(state));
    link.dial(coordinator.port());
    coordinator.accept();
    run_until(io, [&] { return link.over && coordinator.over; });
    CHECK(link.noticed("coordinator_given_up", lie.why));
    CHECK(link.noticed("coordinator_given_up", "untrusted"));
    CHECK(link.counted("coordinator_given_up", "untrusted") == 1);
    CHECK(state.trust.document == fleet.document(2));
    check_silence(coordinator, lie);
  }
}

TEST_CASE("a new node shows its token to nobody but the coordinator of its fleet's root", "[hostile][node]") {
  const Fleet fleet;
  const JoinToken token{"127.0.0.1:1", fleet.root.public_key(), fleet.id, JoinSecret{}, today + 24h};
  for (const Lie& lie : lies()) {
    if (lie.for_members_only) continue;
    CAPTURE(lie.what);
    asio::io_context io;
    FalseCoordinator coordinator(io, fleet.coordinator);
    coordinator.chain.documents = {lie.document(fleet)};
    node::Enrolment enrolment(token, "test 1");
    NodeLink link(io, fleet.node,
                  [&](const node::Event& event, Now now) { return enrolment.step(event, now); });
    link.dial(coordinator.port());
    coordinator.accept();
    run_until(io, [&] { return link.over && coordinator.over; });
    const auto* failed = std::get_if<node::Enrolment::Failed>(&enrolment.outcome());
    REQUIRE(failed != nullptr);
    CHECK(failed->reason == Reason::untrusted);
    CHECK_THAT(failed->error.detail, contains(lie.why));
    check_silence(coordinator, lie);
  }
}

TEST_CASE("an online key alone cannot make a node serve what it should not", "[hostile][node]") {
  const Fleet fleet;
  const node::testing::Model model = fleet.model();
  const VersionManifest manifest = fleet.manifest(model, 5, 2);
  VersionManifest foreign = manifest;
  foreign.fleet = {};
  struct Case {
    const char* what;
    Envelope envelope;
  };
  const std::vector<Case> cases{
      {"a candidate as an assignment", fleet.sealed(fleet.candidate(manifest, 1))},
      {"a candidate signed as a version",
       seal(fleet.coordinator, Context::version, encode(fleet.candidate(manifest, 1)))},
      {"a version signed as a candidate", seal(fleet.coordinator, Context::candidate, encode(manifest))},
      {"a version that nobody signed", {encode(manifest), {}}},
      {"a version that another key signed",
       seal(node::testing::key_of(66), Context::version, encode(manifest))},
      {"a version that the release key signed", seal(fleet.release_key, Context::version, encode(manifest))},
      {"a version of another fleet", fleet.sealed(foreign)},
      {"no version", seal(fleet.coordinator, Context::version, copy_of(bytes_of("serve me")))},
  };
  asio::io_context io;
  FalseCoordinator coordinator(io, fleet.coordinator);
  coordinator.chain = fleet.chain(2);
  coordinator.welcome = fleet.welcome();
  node::State state = member_of(fleet);
  std::ignore = node::start(state, NodeLink::now());
  NodeLink link(io, fleet.node, stepping(state));
  link.dial(coordinator.port());
  coordinator.accept();
  run_until(io, [&] { return std::holds_alternative<node::Online>(state.link.phase); });
  double refused = 0;
  for (const Case& one : cases) {
    CAPTURE(one.what);
    link.notices.clear();
    coordinator.send(message::Assignment{one.envelope});
    run_until(io, [&] { return link.noticed("assignment_refused"); });
    CHECK(link.noticed("assignment_refused", "bad_manifest"));
    CHECK(link.counted("assignment_refused", "bad_manifest") == ++refused);
    CHECK(state.serving.highest_manifest == 0);
    CHECK_FALSE(state.serving.pending.has_value());
    CHECK(link.fetches == 0);
  }
  // The same manifest in its own envelope is taken.
  coordinator.send(message::Assignment{fleet.sealed(manifest)});
  run_until(io, [&] { return link.fetches > 0; });
  CHECK(state.serving.highest_manifest == 5);
  coordinator.hang_up();
  run_until(io, [&] { return link.over; });
}

TEST_CASE("a node believes no time that the coordinator's key did not sign", "[hostile][node]") {
  const Fleet fleet;
  asio::io_context io;
  FalseCoordinator coordinator(io, fleet.coordinator);
  coordinator.chain = fleet.chain(2);
  coordinator.welcome = fleet.welcome();
  coordinator.welcome->time = seal(fleet.release_key, Context::time, coordinator.welcome->time.payload);
  node::State state = member_of(fleet);
  std::ignore = node::start(state, NodeLink::now());
  NodeLink link(io, fleet.node, stepping(state));
  link.dial(coordinator.port());
  coordinator.accept();
  run_until(io, [&] { return link.over && coordinator.over; });
  CHECK(link.noticed("coordinator_given_up", "untrusted"));
  CHECK(link.counted("coordinator_given_up", "untrusted") == 1);
  REQUIRE(coordinator.heard.size() == 1);
  CHECK(std::holds_alternative<message::Hello>(coordinator.heard[0]));
}

}  // namespace rivulet
