#pragma once

#include <asio/awaitable.hpp>
#include <asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string_view>

#include "protocol/endpoint.h"
#include "protocol/transport/frame_stream.h"
#include "protocol/transport/limits.h"
#include "protocol/transport/pending_slots.h"
#include "protocol/transport/task_group.h"
#include "protocol/transport/tls_context.h"

namespace rivulet {

/// A connection whose TLS handshake has succeeded; its peer owns the key stream->peer_key(), whoever that is.
class Incoming {
 public:
  Incoming(std::unique_ptr<FrameStream> frames, PendingSlot pending)
      : stream(std::move(frames)), slot(std::move(pending)) {}

  std::unique_ptr<FrameStream> stream;
  PendingSlot slot;  ///< Call slot.release() once the peer is authenticated.
};

/// What has happened since the start.
struct ListenerCounters {
  std::uint64_t accepted = 0;           ///< TCP connections that got a slot
  std::uint64_t over_total = 0;         ///< closed at once: too many pending
  std::uint64_t over_network = 0;       ///< closed at once: too many pending from their network
  std::uint64_t over_open = 0;          ///< closed at once: too many open
  std::uint64_t handshakes_failed = 0;  ///< no TLS by the deadline, or refused
  std::uint64_t accept_errors = 0;      ///< the system refused, e.g. EMFILE
};

/// Accepts connections, holds strangers to their limits, and starts a handler for each peer that finished its
/// TLS handshake. Everything runs on one executor, a strand or a single thread; calls are made there.
class Listener {
 public:
  /// Runs as a task of the listener and is told to stop by close(). When it returns, the connection ends.
  using Handler = std::function<asio::awaitable<void>(Incoming incoming)>;
  /// Told in one line about what an operator should know (accept errors, failed handshakes), and about a bug
  /// in a handler just before the program aborts.
  using Report = std::function<void(std::string_view what)>;

  struct Options {
    ListenerLimits listener;
    TransportLimits transport;
    std::size_t open_max = 0;  ///< Connections at once, whoever they are; 0: no bound.
  };

  /// Binds and listens; start() begins to accept.
  /// @param endpoint port 0 picks one; a name is looked up at once. @param tls outlives the listener.
  /// @return invalid for a host that is none of ours, conflict if the port is taken, permission.
  static Result<std::unique_ptr<Listener>> open(asio::any_io_executor executor, const Endpoint& endpoint,
                                                const TlsContext& tls, Options options, Handler handler,
                                                Report report);

  void start();
  /// Stops accepting, tells all handlers to stop, and awaits them. To be awaited before destruction.
  asio::awaitable<void> close();

  [[nodiscard]] Endpoint local_endpoint() const;
  [[nodiscard]] const ListenerCounters& counters() const { return counters_; }
  /// Connections that are not authenticated yet.
  [[nodiscard]] std::size_t pending() const { return slots_->taken(); }
  /// All connections, from their acceptance to their end.
  [[nodiscard]] std::size_t open() const { return static_cast<std::size_t>(places_.use_count()) - 1; }

 private:
  Listener(asio::ip::tcp::acceptor acceptor, const TlsContext& tls, Options options, Handler handler,
           Report report);
  asio::awaitable<void> accept_all();
  void admit(asio::ip::tcp::socket socket);
  using Place = std::shared_ptr<const char>;
  asio::awaitable<void> serve(asio::ip::tcp::socket socket, PendingSlot slot, Place place);

  asio::ip::tcp::acceptor acceptor_;
  const TlsContext& tls_;
  Options options_;
  Handler handler_;
  Report report_;
  std::shared_ptr<PendingSlots> slots_;  // shared with each slot
  Place places_;                         // shared with each connection, and so counts them
  ListenerCounters counters_;
  TaskGroup tasks_;
};

}  // namespace rivulet
