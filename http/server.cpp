#include "http/server.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "http/lane.h"

namespace rivulet::http {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

struct Server::Impl {
  Impl(const Limits& limits, Service service) : shared(limits, std::move(service)) {}

  Shared shared;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer retry{io};
  tcp::endpoint local;
  std::vector<std::unique_ptr<Lane>> lanes;
  std::thread thread;

  /// On the thread. What throws costs one connection.
  void run() {
    for (bool broken = false;;) {
      try {
        if (std::exchange(broken, false)) {
          io.restart();
          if (acceptor.is_open()) accept();
        }
        io.run();
        return;
      } catch (...) {
        broken = true;
      }
    }
  }

  void accept() {
    acceptor.async_accept([this](ErrorCode error, tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (!error) {
        place(std::move(socket));
        return accept();
      }
      // Out of descriptors, for example: at once it would fail again.
      retry.expires_after(std::chrono::milliseconds(100));
      retry.async_wait([this](ErrorCode ended) {
        if (!ended && acceptor.is_open()) accept();
      });
    });
  }

  /// On the lane with the fewest connections, of those that handle no request just now if there are any.
  void place(tcp::socket&& socket) {
    std::size_t connections = 0;
    for (const auto& lane : lanes) connections += lane->connections();
    if (connections >= shared.limits.connections_max) return;
    const auto load = [](const std::unique_ptr<Lane>& lane) {
      return std::pair(lane->is_busy(), lane->connections());
    };
    (*std::ranges::min_element(lanes, {}, load))->take(std::move(socket), local.protocol());
  }
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { stop(); }

Result<std::unique_ptr<Server>> Server::start(const Endpoint& listen, const Limits& limits, Service service) {
  auto impl = std::make_unique<Impl>(limits, std::move(service));
  ErrorCode error;
  tcp::resolver resolver(impl->io);
  const auto found =
      resolver.resolve(listen.host, std::to_string(listen.port), tcp::resolver::passive, error);
  if (error || found.empty())
    return fail(Errc::invalid, "cannot listen on " + to_string(listen) + ": " + error.message());
  const tcp::endpoint at = found.begin()->endpoint();
  impl->acceptor.open(at.protocol(), error);
  // Without SO_REUSEPORT, by which a second process would take part of the requests.
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(at, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(Errc::busy, "cannot listen on " + to_string(listen) + ": " + error.message());
  impl->local = impl->acceptor.local_endpoint();
  try {
    for (std::size_t i = 0; i < limits.threads; ++i)
      impl->lanes.push_back(std::make_unique<Lane>(impl->shared));
    impl->accept();
    impl->thread = std::thread([running = impl.get()] { running->run(); });
  } catch (const std::system_error& failed) {
    return fail(Errc::internal, "cannot start the threads of " + to_string(listen) + ": " + failed.what());
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Endpoint Server::local_endpoint() const { return {impl_->local.address().to_string(), impl_->local.port()}; }

void Server::stop() {
  if (!impl_->thread.joinable()) return;
  asio::post(impl_->io, [impl = impl_.get()] {
    ErrorCode ignored;
    impl->acceptor.close(ignored);
    impl->retry.cancel();
  });
  impl_->thread.join();
  for (const auto& lane : impl_->lanes) lane->stop();
  impl_->lanes.clear();
}

}  // namespace rivulet::http
