#pragma once

#include <asio/awaitable.hpp>
#include <asio/ip/tcp.hpp>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"
#include "protocol/transport/deadline.h"
#include "protocol/transport/tls_context.h"

namespace rivulet {

enum class TlsRole { client, server };

/// TLS over one TCP connection: OpenSSL works on the non-blocking socket itself and Asio only waits for it,
/// which keeps an idle connection at 16 KiB of memory where asio::ssl::stream takes 84 KiB.
///
/// All calls are made on the socket's executor, which is a strand or runs on one thread. One coroutine may
/// read while another writes; two readers or two writers are a bug. The stream outlives the coroutines that
/// use it.
///
/// Errors: disconnected when the peer is gone (also without a TLS close: only frames know whether something
/// is missing); refused when either side's TLS says no, with OpenSSL's reason; timeout; cancelled. After a
/// timeout or a cancellation, reading may go on; writing may not, since a record may be half sent.
class TlsStream {
 public:
  /// @param socket connected.
  TlsStream(asio::ip::tcp::socket socket, const TlsContext& context, TlsRole role);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  /// In TLS 1.3 the client's side ends before the server has judged the client's certificate: a refusal meets
  /// the client when it first reads.
  asio::awaitable<Status> handshake(Deadline deadline);
  /// @param into at least one byte; stays valid until the end. @return how many bytes came, at least one.
  asio::awaitable<Result<std::size_t>> read_some(std::span<std::byte> into, Deadline deadline = no_deadline);
  /// @param bytes at least one; stays valid until the end. @return how many bytes went, at least one.
  asio::awaitable<Result<std::size_t>> write_some(ByteSpan bytes, Deadline deadline = no_deadline);
  asio::awaitable<Status> write_all(ByteSpan bytes, Deadline deadline = no_deadline);

  /// Ends all other calls with cancelled, says goodbye in TLS if that needs no waiting, and waits at most
  /// `linger` for the peer to end too; a reset would take from it what we sent last.
  asio::awaitable<void> close(std::chrono::milliseconds linger);
  /// Ends all calls, now and later, with cancelled. The connection itself ends in close() or the destructor.
  void cancel();

  /// Who the peer proved to be. After the handshake only.
  [[nodiscard]] const PublicKey& peer_key() const;
  /// The peer's address, "1.2.3.4:5678", for messages.
  [[nodiscard]] const std::string& remote() const { return remote_; }
  [[nodiscard]] asio::any_io_executor executor() { return socket_.get_executor(); }

 private:
  enum class Operation { handshake, read, write };
  struct Attempt;
  struct FreeTls {
    void operator()(ssl_st* tls) const;
  };

  Attempt attempt(Operation operation, void* data, std::size_t size);
  asio::awaitable<Result<std::size_t>> perform(Operation operation, void* data, std::size_t size,
                                               Deadline deadline);
  asio::awaitable<Status> wait(asio::ip::tcp::socket::wait_type what, Deadline deadline);
  asio::awaitable<void> drain(Deadline deadline);

  asio::ip::tcp::socket socket_;
  std::unique_ptr<ssl_st, FreeTls> tls_;
  std::string remote_;
  std::optional<PublicKey> peer_key_;
  std::optional<Error> read_error_;  // final: OpenSSL forbids to go on
  std::optional<Error> write_error_;
  std::size_t unyielded_bytes_ = 0;  // moved since we last let others run
  bool reading_ = false;
  bool writing_ = false;
  bool cancelled_ = false;
  bool closing_ = false;
};

}  // namespace rivulet
