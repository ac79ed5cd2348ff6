#pragma once

#include <map>
#include <memory>

#include "coordinator/server/driver.h"
#include "link/verified_parts.h"
#include "protocol/core/transfer.h"
#include "protocol/limits.h"
#include "protocol/transport/listener.h"
#include "protocol/transport/tls_context.h"

namespace rivulet::coordinator {

/// The nodes' connections: one session each, from the TLS handshake on. What they bring goes to the
/// driver as events. On the driver's thread.
class Connections final : public Links {
 public:
  /// All references outlive the object.
  Connections(Driver& driver, const Limits& limits);
  ~Connections() override;

  /// Binds and listens; start() begins to accept. @param open_max connections at once. @return as
  /// Listener::open.
  Status listen(asio::any_io_executor executor, const Endpoint& endpoint, const SecretKey& key,
                std::size_t open_max);
  void start() { listener_->start(); }
  /// Lets what was queued for nodes leave, for a moment, and ends all connections.
  asio::awaitable<void> close();
  [[nodiscard]] Endpoint local_endpoint() const { return listener_->local_endpoint(); }

  void send(SessionId session, Message message) override;
  void welcome(SessionId session, message::Welcome welcome) override;
  bool close(SessionId session, Reason reason, std::string detail) override;
  bool fetch(SessionId session, const ContentId& content, std::uint64_t bytes_max) override;
  void stop_fetch(SessionId session, const ContentId& content) override;
  [[nodiscard]] bool open(SessionId session) const override;
  void show(ServerMetrics::Gauges& gauges) const override;

 private:
  class Peer;
  asio::awaitable<void> serve(Incoming incoming);
  [[nodiscard]] Peer* find(SessionId session) const;

  Driver& driver_;
  const Limits& limits_;
  core::CreditPool credit_;
  VerifiedParts parts_;
  SessionId next_session_ = 1;
  std::map<SessionId, Peer*> peers_;  // Each lives in the task that serves it.
  std::unique_ptr<TlsContext> tls_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace rivulet::coordinator
