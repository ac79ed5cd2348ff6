#include "protocol/transport/connector.h"

#include <spdlog/fmt/fmt.h>

#include <asio/experimental/as_tuple.hpp>
#include <asio/ip/tcp.hpp>
#include <vector>

namespace rivulet {
namespace {

using Addresses = std::vector<asio::ip::tcp::endpoint>;

/// A lookup under way. Shared by the coroutine that waits and the resolver, whose getaddrinfo cannot be
/// interrupted: the coroutine may give up while the resolver's thread still works.
struct Lookup {
  explicit Lookup(const asio::any_io_executor& executor) : resolver(executor), answered(executor) {}
  asio::ip::tcp::resolver resolver;
  asio::steady_timer answered;
  std::optional<std::error_code> error;
  Addresses addresses;
};

asio::awaitable<Result<Addresses>> resolve(asio::any_io_executor executor, Endpoint endpoint,
                                           Deadline deadline) {
  std::error_code not_numeric;
  const auto address = asio::ip::make_address(endpoint.host, not_numeric);
  if (!not_numeric) co_return Addresses{asio::ip::tcp::endpoint(address, endpoint.port)};

  const auto lookup = std::make_shared<Lookup>(executor);
  lookup->answered.expires_at(deadline);
  lookup->resolver.async_resolve(
      endpoint.host, std::to_string(endpoint.port),
      [lookup](const std::error_code& error, const asio::ip::tcp::resolver::results_type& found) {
        lookup->error = error;
        for (const auto& entry : found) lookup->addresses.push_back(entry.endpoint());
        lookup->answered.cancel();
      });
  co_await lookup->answered.async_wait(asio::experimental::as_tuple(asio::use_awaitable));
  if (co_await is_cancelled()) co_return fail(Errc::cancelled, "stopped");
  if (!lookup->error) co_return fail(Errc::timeout, "the name was not looked up in time");
  if (*lookup->error) co_return fail(Errc::not_found, lookup->error->message());
  co_return std::move(lookup->addresses);
}

asio::awaitable<Status> connect_to(asio::ip::tcp::socket& socket, asio::ip::tcp::endpoint address) {
  const auto [error] =
      co_await socket.async_connect(address, asio::experimental::as_tuple(asio::use_awaitable));
  if (error == asio::error::operation_aborted) co_return fail(Errc::cancelled, "stopped");
  if (error) co_return fail(Errc::disconnected, error.message());
  co_return Status();
}

/// The first of the addresses that answers.
asio::awaitable<Result<asio::ip::tcp::socket>> connect_to_any(asio::any_io_executor executor,
                                                              Addresses addresses, Deadline deadline) {
  Error last{Errc::not_found, "the name has no address"};
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    const auto now = std::chrono::steady_clock::now();
    const auto left = static_cast<Deadline::rep>(addresses.size() - index);
    const Deadline share = deadline == no_deadline ? deadline : now + (deadline - now) / left;
    asio::ip::tcp::socket socket(executor);
    asio::awaitable<Status> attempt = connect_to(socket, addresses[index]);
    const Status connected = co_await with_deadline(std::move(attempt), share);
    if (connected) co_return socket;
    last = connected.error();
    if (last.code == Errc::cancelled) break;
  }
  co_return std::unexpected(last);
}

asio::awaitable<Result<std::unique_ptr<FrameStream>>> connect_owned(asio::any_io_executor executor,
                                                                    Endpoint endpoint, const TlsContext& tls,
                                                                    Deadline deadline,
                                                                    TransportLimits limits) {
  const std::string where = "cannot connect to " + to_string(endpoint);
  // Named, as GCC 12 destroys twice an aggregate (the endpoint) that is copied inside a co_await expression.
  asio::awaitable<Result<Addresses>> resolving = resolve(executor, endpoint, deadline);
  Result<Addresses> addresses = co_await std::move(resolving);
  if (!addresses) co_return fail_at(where, addresses.error());
  Result<asio::ip::tcp::socket> socket = co_await connect_to_any(executor, std::move(*addresses), deadline);
  if (!socket) co_return fail_at(where, socket.error());
  auto stream = std::make_unique<TlsStream>(std::move(*socket), tls, TlsRole::client);
  const Deadline handshake = std::min(deadline, deadline_in(limits.handshake));
  const Status shaken = co_await stream->handshake(handshake);
  if (!shaken) co_return fail_at(where, shaken.error());
  co_return std::make_unique<FrameStream>(std::move(stream), limits);
}

}  // namespace

asio::awaitable<Result<std::unique_ptr<FrameStream>>> connect(asio::any_io_executor executor,
                                                              const Endpoint& endpoint, const TlsContext& tls,
                                                              Deadline deadline, TransportLimits limits) {
  return connect_owned(std::move(executor), endpoint, tls, deadline, limits);
}

}  // namespace rivulet
