#include "protocol/transport/listener.h"

#include <spdlog/fmt/fmt.h>

#include <asio/experimental/as_tuple.hpp>

namespace rivulet {
namespace {

Errc kind_of(const std::error_code& error) {
  if (error == asio::error::address_in_use) return Errc::conflict;
  if (error == asio::error::access_denied) return Errc::permission;
  return Errc::invalid;
}

Result<asio::ip::tcp::acceptor> listen(const asio::any_io_executor& executor, const Endpoint& endpoint) {
  const auto failed = [&](const std::error_code& error) {
    return fail(kind_of(error), fmt::format("cannot listen on {}: {}", to_string(endpoint), error.message()));
  };
  std::error_code error;
  asio::ip::tcp::resolver resolver(executor);
  const auto found =
      resolver.resolve(endpoint.host, std::to_string(endpoint.port), asio::ip::tcp::resolver::passive, error);
  if (error) return failed(error);
  const asio::ip::tcp::endpoint address = found.begin()->endpoint();
  asio::ip::tcp::acceptor acceptor(executor);
  acceptor.open(address.protocol(), error);
  if (!error) acceptor.set_option(asio::ip::tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(address, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed(error);
  return acceptor;
}

}  // namespace

Listener::Listener(asio::ip::tcp::acceptor acceptor, const TlsContext& tls, Options options, Handler handler,
                   Report report)
    : acceptor_(std::move(acceptor)),
      tls_(tls),
      options_(options),
      handler_(std::move(handler)),
      report_(std::move(report)),
      slots_(std::make_shared<PendingSlots>(options_.listener)),
      places_(std::make_shared<const char>()),
      tasks_(acceptor_.get_executor(), report_) {}

Result<std::unique_ptr<Listener>> Listener::open(asio::any_io_executor executor, const Endpoint& endpoint,
                                                 const TlsContext& tls, Options options, Handler handler,
                                                 Report report) {
  auto acceptor = listen(executor, endpoint);
  if (!acceptor) return std::unexpected(acceptor.error());
  return std::unique_ptr<Listener>(
      new Listener(std::move(*acceptor), tls, options, std::move(handler), std::move(report)));
}

void Listener::start() { tasks_.spawn(accept_all()); }

asio::awaitable<void> Listener::close() {
  std::error_code ignored;  // Of an acceptor that is closed already.
  acceptor_.close(ignored);
  co_await tasks_.close();
}

Endpoint Listener::local_endpoint() const {
  const auto endpoint = acceptor_.local_endpoint();
  return Endpoint{endpoint.address().to_string(), endpoint.port()};
}

asio::awaitable<void> Listener::accept_all() {
  const auto token = asio::experimental::as_tuple(asio::use_awaitable);
  while (acceptor_.is_open()) {
    auto [error, socket] = co_await acceptor_.async_accept(token);
    const bool told = co_await is_cancelled();
    if (told || !acceptor_.is_open()) co_return;
    if (!error) {
      admit(std::move(socket));
    } else if (error != asio::error::connection_aborted) {  // That is a peer which gave up in the queue.
      ++counters_.accept_errors;
      report_(fmt::format("cannot accept a connection: {}; trying again in {} ms", error.message(),
                          options_.listener.accept_backoff.count()));
      const Status slept = co_await sleep_until(deadline_in(options_.listener.accept_backoff));
      if (!slept) co_return;
    }
  }
}

void Listener::admit(asio::ip::tcp::socket socket) {
  std::error_code error;
  const auto peer = socket.remote_endpoint(error);
  if (error) return;  // It has gone already.
  if (options_.open_max != 0 && open() >= options_.open_max) {
    ++counters_.over_open;
    return;
  }
  PendingSlots::Refusal refusal{};
  std::optional<PendingSlot> slot = slots_->take(peer.address(), refusal);
  if (!slot) {
    ++(refusal == PendingSlots::Refusal::total ? counters_.over_total : counters_.over_network);
    return;
  }
  ++counters_.accepted;
  tasks_.spawn(serve(std::move(socket), std::move(*slot), places_));
}

asio::awaitable<void> Listener::serve(asio::ip::tcp::socket socket, PendingSlot slot, Place) {
  auto tls = std::make_unique<TlsStream>(std::move(socket), tls_, TlsRole::server);
  const Status shaken = co_await tls->handshake(deadline_in(options_.transport.handshake));
  if (!shaken) {
    if (shaken.error().code == Errc::cancelled) co_return;
    ++counters_.handshakes_failed;
    report_(shaken.error().detail);
    co_await tls->close(options_.transport.linger);  // So that the alert, which says why, arrives.
    co_return;
  }
  auto frames = std::make_unique<FrameStream>(std::move(tls), options_.transport);
  // Named, as GCC 12 destroys twice what is made inside a co_await expression.
  Incoming incoming(std::move(frames), std::move(slot));
  asio::awaitable<void> handling = handler_(std::move(incoming));
  co_await std::move(handling);
}

}  // namespace rivulet
