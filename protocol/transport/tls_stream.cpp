#include "protocol/transport/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <array>
#include <asio/experimental/as_tuple.hpp>
#include <asio/post.hpp>
#include <cerrno>

#include "protocol/assert.h"
#include "protocol/transport/openssl_error.h"

namespace rivulet {
namespace {

/// After this much without a pause other connections get their turn.
constexpr std::size_t turn_bytes = 64 * 1024;
/// A peer that keeps sending while we close is not listened to for longer.
constexpr std::size_t drain_bytes_max = 1 << 20;

// OpenSSL's own socket BIO uses write(), whose SIGPIPE would end the program when a peer resets its
// connection; this one differs in MSG_NOSIGNAL only.

int descriptor_of(BIO* bio) { return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))); }

bool is_transient(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

int socket_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = ::send(descriptor_of(bio), data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (sent < 0 && is_transient(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int socket_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  errno = 0;
  const ssize_t received = ::recv(descriptor_of(bio), data, static_cast<std::size_t>(size), 0);
  if (received < 0 && is_transient(errno)) BIO_set_retry_read(bio);
  return static_cast<int>(received);
}

long socket_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
    RIVULET_ASSERT(made != nullptr && BIO_meth_set_write(made, socket_write) == 1 &&
                   BIO_meth_set_read(made, socket_read) == 1 && BIO_meth_set_ctrl(made, socket_control) == 1);
    return made;
  }();
  return method;
}

/// Keeps a second reader or writer out.
struct Exclusive {
  bool& flag;
  explicit Exclusive(bool& taken) : flag(taken) {
    RIVULET_ASSERT(!flag);
    flag = true;
  }
  ~Exclusive() { flag = false; }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;
};

std::string text_of(const asio::ip::tcp::socket& socket) {
  std::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return "a peer that has gone";
  const bool ipv6 = endpoint.address().is_v6();
  return (ipv6 ? "[" : "") + endpoint.address().to_string() + (ipv6 ? "]:" : ":") +
         std::to_string(endpoint.port());
}

}  // namespace

/// What one call into OpenSSL came to: bytes moved, something to wait for, or an error.
struct TlsStream::Attempt {
  std::size_t moved = 0;
  std::optional<asio::ip::tcp::socket::wait_type> wanted;
  std::optional<Error> error;
};

void TlsStream::FreeTls::operator()(ssl_st* tls) const { SSL_free(tls); }

TlsStream::TlsStream(asio::ip::tcp::socket socket, const TlsContext& context, TlsRole role)
    : socket_(std::move(socket)), tls_(SSL_new(context.get())), remote_(text_of(socket_)) {
  // A connection that died meanwhile fails here; the handshake will say so.
  std::error_code ignored;
  socket_.native_non_blocking(true, ignored);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  BIO* const bio = BIO_new(socket_method());
  RIVULET_ASSERT(tls_ != nullptr && bio != nullptr);  // Only without memory.
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket_.native_handle())));
  BIO_set_init(bio, 1);
  SSL_set_bio(tls_.get(), bio, bio);
  if (role == TlsRole::server) {
    SSL_set_accept_state(tls_.get());
  } else {
    SSL_set_connect_state(tls_.get());
  }
}

TlsStream::~TlsStream() = default;

const PublicKey& TlsStream::peer_key() const {
  RIVULET_ASSERT(peer_key_.has_value());
  return *peer_key_;
}

TlsStream::Attempt TlsStream::attempt(Operation operation, void* data, std::size_t size) {
  ERR_clear_error();  // The queue belongs to the thread: what another library left there is not ours.
  Attempt result;
  int done = 0;
  switch (operation) {
    case Operation::handshake: done = SSL_do_handshake(tls_.get()); break;
    case Operation::read: done = SSL_read_ex(tls_.get(), data, size, &result.moved); break;
    case Operation::write: done = SSL_write_ex(tls_.get(), data, size, &result.moved); break;
  }
  if (done == 1) return result;
  const int system_error = errno;
  switch (SSL_get_error(tls_.get(), done)) {
    case SSL_ERROR_WANT_READ: result.wanted = asio::ip::tcp::socket::wait_read; break;
    case SSL_ERROR_WANT_WRITE: result.wanted = asio::ip::tcp::socket::wait_write; break;
    case SSL_ERROR_ZERO_RETURN:
      result.error = Error{Errc::disconnected, remote_ + " closed the connection"};
      break;
    case SSL_ERROR_SYSCALL:
      result.error =
          Error{Errc::disconnected, "lost the connection to " + remote_ + ": " +
                                        (system_error == 0 ? "it ended" : std::strerror(system_error))};
      break;
    default:
      result.error = Error{Errc::refused, "TLS with " + remote_ + ": " + take_openssl_reason()};
      if (SSL_get_verify_result(tls_.get()) != X509_V_OK) {
        result.error->detail += ": the peer has to show exactly one self-signed Ed25519 certificate";
      }
      // The whole connection is done for, and not just this direction.
      read_error_ = result.error;
      write_error_ = result.error;
  }
  ERR_clear_error();
  return result;
}

asio::awaitable<Status> TlsStream::wait(asio::ip::tcp::socket::wait_type what, Deadline deadline) {
  unyielded_bytes_ = 0;
  if (deadline == no_deadline) {
    const auto [error] = co_await socket_.async_wait(what, asio::experimental::as_tuple(asio::use_awaitable));
    if (error) co_return fail(Errc::cancelled, "the wait for " + remote_ + " was stopped");
    co_return Status();
  }
  asio::steady_timer timer(socket_.get_executor(), deadline);
  auto race = asio::experimental::make_parallel_group(socket_.async_wait(what, asio::experimental::deferred),
                                                      timer.async_wait(asio::experimental::deferred));
  const asio::experimental::wait_for_one first;
  const auto [order, error, timer_error] = co_await race.async_wait(first, asio::use_awaitable);
  if (!error) co_return Status();
  if (!timer_error) co_return fail(Errc::timeout, remote_ + " took too long");
  co_return fail(Errc::cancelled, "the wait for " + remote_ + " was stopped");
}

asio::awaitable<Result<std::size_t>> TlsStream::perform(Operation operation, void* data, std::size_t size,
                                                        Deadline deadline) {
  if (unyielded_bytes_ > turn_bytes) {
    unyielded_bytes_ = 0;
    co_await asio::post(socket_.get_executor(), asio::use_awaitable);
  }
  for (;;) {
    const bool told = co_await is_cancelled();
    if (told || cancelled_)
      co_return fail(Errc::cancelled, "the connection to " + remote_ + " is being closed");
    const Attempt attempted = attempt(operation, data, size);
    if (attempted.error) co_return std::unexpected(*attempted.error);
    if (!attempted.wanted) {
      unyielded_bytes_ += attempted.moved;
      co_return attempted.moved;
    }
    const Status ready = co_await wait(*attempted.wanted, deadline);
    if (!ready) co_return std::unexpected(ready.error());
  }
}

asio::awaitable<Status> TlsStream::handshake(Deadline deadline) {
  const Exclusive reader(reading_);
  const Exclusive writer(writing_);
  const Result<std::size_t> done = co_await perform(Operation::handshake, nullptr, 0, deadline);
  if (!done) {
    write_error_ = done.error();
    co_return fail_at("TLS handshake", done.error());
  }
  const Result<PublicKey> key = verified_peer_key(tls_.get());
  if (!key) co_return fail_at("TLS handshake with " + remote_, key.error());
  peer_key_ = *key;
  co_return Status();
}

asio::awaitable<Result<std::size_t>> TlsStream::read_some(std::span<std::byte> into, Deadline deadline) {
  RIVULET_ASSERT(!into.empty());
  const Exclusive reader(reading_);
  if (read_error_) co_return std::unexpected(*read_error_);
  Result<std::size_t> moved = co_await perform(Operation::read, into.data(), into.size(), deadline);
  if (!moved && moved.error().code == Errc::disconnected) read_error_ = moved.error();
  co_return moved;
}

asio::awaitable<Result<std::size_t>> TlsStream::write_some(ByteSpan bytes, Deadline deadline) {
  RIVULET_ASSERT(!bytes.empty());
  const Exclusive writer(writing_);
  if (write_error_) co_return std::unexpected(*write_error_);
  // OpenSSL only reads through this pointer.
  void* const data = const_cast<std::byte*>(bytes.data());
  Result<std::size_t> moved = co_await perform(Operation::write, data, bytes.size(), deadline);
  if (!moved) write_error_ = moved.error();
  co_return moved;
}

asio::awaitable<Status> TlsStream::write_all(ByteSpan bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const Result<std::size_t> moved = co_await write_some(bytes, deadline);
    if (!moved) co_return std::unexpected(moved.error());
    bytes = bytes.subspan(*moved);
  }
  co_return Status();
}

void TlsStream::cancel() {
  cancelled_ = true;
  std::error_code ignored;  // Of a socket that is closed already.
  socket_.cancel(ignored);
}

asio::awaitable<void> TlsStream::drain(Deadline deadline) {
  std::array<std::byte, 4096> sink;
  std::size_t left = drain_bytes_max;
  for (;;) {
    const ssize_t received = ::recv(socket_.native_handle(), sink.data(), sink.size(), 0);
    if (received == 0 || (received < 0 && !is_transient(errno))) co_return;
    if (received > 0) {
      if (static_cast<std::size_t>(received) >= left) co_return;
      left -= static_cast<std::size_t>(received);
      continue;
    }
    const bool told = co_await is_cancelled();
    if (told) co_return;
    const Status ready = co_await wait(asio::ip::tcp::socket::wait_read, deadline);
    if (!ready) co_return;
  }
}

asio::awaitable<void> TlsStream::close(std::chrono::milliseconds linger) {
  if (std::exchange(closing_, true)) co_return;
  const bool between_records = !writing_ && !write_error_;
  cancel();
  if (peer_key_ && between_records) {
    SSL_shutdown(tls_.get());  // Best effort: one alert into the socket's buffer.
    ERR_clear_error();
  }
  std::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  co_await drain(deadline_in(linger));
  socket_.close(ignored);
}

}  // namespace rivulet
