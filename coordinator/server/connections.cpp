#include "coordinator/server/connections.h"

#include "link/connection.h"
#include "link/log.h"
#include "protocol/transport/certificate.h"

namespace rivulet::coordinator {

/// One node's connection and what it says.
class Connections::Peer final : public ConnectionUser {
 public:
  Peer(Connections& owner, SessionId id, Incoming incoming)
      : id_(id),
        driver_(owner.driver_),
        slot_(std::move(incoming.slot)),
        connection_(std::move(incoming.stream), core::Role::coordinator, owner.limits_, owner.credit_,
                    owner.driver_.blobs(), owner.parts_, *this) {}

  [[nodiscard]] SessionId id() const { return id_; }
  Connection& connection() { return connection_; }
  /// It does not count among strangers any more.
  void authenticated() {
    slot_.release();
    is_member_ = true;
  }
  [[nodiscard]] bool is_member() const { return is_member_; }
  /// The core has said why the connection ends, and so it is counted.
  void set_counted() { counted_ = true; }
  [[nodiscard]] bool counted() const { return counted_; }

  void deliver(Connection&, Message message) override {
    std::visit([&](auto& value) { take(value); }, message);
  }
  void finish_fetch(Connection&, const ContentId& content) override {
    driver_.uploads().arrived(id_, content);
  }
  void fetch_failed(Connection&, const ContentId& content, Error error) override {
    driver_.uploads().failed(id_, content, error);
  }
  std::optional<ChunkList> chunk_list(const ContentId& content) override {
    return driver_.served_list(content);
  }
  void count_sent(std::uint64_t bytes) override { driver_.count_sent(bytes); }
  void count_received(std::uint64_t bytes) override { driver_.count_received(bytes); }

 private:
  void take(message::Hello& hello) {
    driver_.handle(event::HelloReceived{id_, connection_.peer_key(), std::move(hello)});
  }
  void take(message::Enrol& enrol) {
    driver_.handle(event::EnrolReceived{id_, connection_.peer_key(), std::move(enrol)});
  }
  void take(message::Ready& ready) { driver_.handle(event::ReadyReceived{id_, std::move(ready)}); }
  void take(message::Offer& offer) { driver_.handle(event::OfferReceived{id_, std::move(offer.header)}); }
  void take(message::Evaluation& evaluation) {
    driver_.handle(event::EvaluationReceived{id_, std::move(evaluation.report)});
  }
  void take(message::Declined& declined) {
    driver_.handle(event::DeclinedReceived{id_, std::move(declined)});
  }
  void take(message::Telemetry& telemetry) { driver_.handle(event::TelemetryReceived{id_, telemetry}); }
  void take(message::Activation& activation) {
    driver_.handle(event::ActivationReceived{id_, std::move(activation)});
  }
  void take(message::TrustRequest& request) {
    connection_.send(message::TrustChain{trust_chain_from(driver_.trust_chain(), request.from_version)});
  }
  /// The session lets nothing else through.
  template <typename T>
  void take(T&) {}

  SessionId id_;
  Driver& driver_;
  PendingSlot slot_;
  bool counted_ = false;
  bool is_member_ = false;
  Connection connection_;
};

Connections::Connections(Driver& driver, const Limits& limits)
    : driver_(driver), limits_(limits), credit_(limits.transfer_memory) {}

Connections::~Connections() = default;

Status Connections::listen(asio::any_io_executor executor, const Endpoint& endpoint, const SecretKey& key,
                           std::size_t open_max) {
  const auto identity = TlsIdentity::make(key);
  if (!identity) return std::unexpected(identity.error());
  auto tls = TlsContext::make(*identity);
  if (!tls) return std::unexpected(tls.error());
  tls_ = std::make_unique<TlsContext>(std::move(*tls));
  Listener::Options options;
  options.listener.pending_max = limits_.unauthenticated_max;
  options.listener.pending_per_network_max = limits_.unauthenticated_per_prefix_max;
  options.transport.handshake = limits_.handshake_timeout;
  options.transport.first_frame = limits_.hello_timeout;
  options.transport.idle = std::chrono::milliseconds(0);  // The session judges silence, by whole frames.
  options.transport.progress_window = limits_.progress_window;
  options.transport.progress_bytes = limits_.progress_bytes_min;
  options.open_max = open_max;
  auto listener = Listener::open(
      std::move(executor), endpoint, *tls_, options,
      [this](Incoming incoming) { return serve(std::move(incoming)); },
      [this](std::string_view what) {
        driver_.log_of_stranger(LogLevel::warning, "no_connection", {{"detail", std::string(what)}});
      });
  if (!listener) return std::unexpected(listener.error());
  listener_ = std::move(*listener);
  return {};
}

asio::awaitable<void> Connections::serve(Incoming incoming) {
  Peer peer(*this, next_session_++, std::move(incoming));
  const SessionId id = peer.id();
  peers_[id] = &peer;
  Connection& connection = peer.connection();
  connection.send(message::TrustChain{{driver_.trust_chain().back()}});
  co_await connection.run();
  peers_.erase(id);
  const Connection::End& end = connection.end();
  // What the core refuses it has told of itself.
  const bool cut_off = end.reason != Reason::none && end.reason != Reason::shutting_down && !peer.counted();
  const LogFields fields{{"reason", end.reason == Reason::none ? "" : std::string(name(end.reason))},
                         {"node", connection.peer_key().hex()},
                         {"remote", connection.remote()},
                         {"detail", end.detail}};
  if (!cut_off) {
    log_event(LogLevel::debug, "connection_ended", fields);
  } else if (peer.is_member()) {
    log_event(LogLevel::warning, "connection_cut_off", fields);
  } else {
    driver_.log_of_stranger(LogLevel::warning, "connection_cut_off", fields);
  }
  if (cut_off) driver_.metrics().count_refusal(name(end.reason));
  driver_.uploads().session_over(id);
  driver_.handle(event::SessionClosed{id});
}

asio::awaitable<void> Connections::close() { co_await listener_->close(); }

Connections::Peer* Connections::find(SessionId session) const {
  const auto found = peers_.find(session);
  return found == peers_.end() ? nullptr : found->second;
}

void Connections::send(SessionId session, Message message) {
  Peer* peer = find(session);
  if (peer == nullptr || peer->connection().ended()) return;
  if (std::holds_alternative<message::Backoff>(message)) peer->set_counted();
  peer->connection().send(std::move(message));
}

void Connections::welcome(SessionId session, message::Welcome welcome) {
  Peer* peer = find(session);
  if (peer == nullptr) return;
  peer->authenticated();
  peer->connection().send(std::move(welcome));
}

bool Connections::close(SessionId session, Reason reason, std::string detail) {
  Peer* peer = find(session);
  // One that was cut off may still be saying goodbye, and is counted for what it did.
  if (peer == nullptr || peer->connection().ended()) return false;
  peer->set_counted();
  peer->connection().close(reason, std::move(detail));
  return true;
}

bool Connections::fetch(SessionId session, const ContentId& content, std::uint64_t bytes_max) {
  Peer* peer = find(session);
  if (peer == nullptr || !peer->connection().open()) return false;
  peer->connection().fetch(content, bytes_max);
  return true;
}

void Connections::stop_fetch(SessionId session, const ContentId& content) {
  if (Peer* peer = find(session)) peer->connection().stop_fetch(content);
}

bool Connections::open(SessionId session) const {
  Peer* peer = find(session);
  return peer != nullptr && peer->connection().open();
}

void Connections::show(ServerMetrics::Gauges& gauges) const {
  gauges.connections = peers_.size();
  gauges.unauthenticated = listener_->pending();
  gauges.handshakes_failed = listener_->counters().handshakes_failed;
  const ListenerCounters& counters = listener_->counters();
  gauges.over_limit = counters.over_total + counters.over_network + counters.over_open;
}

}  // namespace rivulet::coordinator
