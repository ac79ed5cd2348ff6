#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>

#include "protocol/bytes.h"
#include "protocol/transport/limits.h"
#include "protocol/transport/tls_stream.h"

namespace rivulet {

/// Messages over TLS, one a frame.
///   frame := length: u32 LE, at least 1; body: byte[length]
/// One coroutine may read while another writes. A peer is held to TransportLimits: the time of its first
/// frame, silence between frames, progress within one (in both directions). Executor, lifetime and errors as
/// in TlsStream.
class FrameStream {
 public:
  /// @param tls after its handshake: the time of the first frame starts now.
  FrameStream(std::unique_ptr<TlsStream> tls, const TransportLimits& limits);
  FrameStream(const FrameStream&) = delete;
  FrameStream& operator=(const FrameStream&) = delete;

  /// The next frame's body. A read that was cancelled may be called again and goes on where it stopped; any
  /// other error ends reading for good.
  /// @param limit_bytes the largest body to accept; may differ from frame to frame.
  /// @return too_large or corrupt (length 0) before any memory is spent; timeout; disconnected, also when the
  ///   connection ends in mid-frame; refused by TLS; cancelled.
  asio::awaitable<Result<Bytes>> read_frame(std::size_t limit_bytes);

  /// @param body not empty; stays valid until the end. Any error ends writing for good: half a frame may be
  /// out.
  /// @return too_large above 2^32 - 1 bytes; timeout; disconnected; refused; cancelled.
  asio::awaitable<Status> write_frame(ByteSpan body);
  /// The same, keeping `body` alive itself.
  asio::awaitable<Status> write_frame(Bytes&& body);
  /// One frame from several pieces in order, without joining them first. They stay valid until the end.
  asio::awaitable<Status> write_frame(std::span<const ByteSpan> pieces);

  /// See TlsStream::close.
  asio::awaitable<void> close();
  void cancel() { tls_->cancel(); }

  [[nodiscard]] const PublicKey& peer_key() const { return tls_->peer_key(); }
  [[nodiscard]] const std::string& remote() const { return tls_->remote(); }
  [[nodiscard]] asio::any_io_executor executor() const { return tls_->executor(); }
  /// Bytes of frames, headers included, before TLS adds its own.
  [[nodiscard]] std::uint64_t bytes_in() const { return bytes_in_; }
  [[nodiscard]] std::uint64_t bytes_out() const { return bytes_out_; }

 private:
  static constexpr std::size_t header_bytes = 4;

  /// The rule of the least progress, for one frame in one direction.
  class Progress {
   public:
    explicit Progress(const TransportLimits& limits) : limits_(limits) {}
    void start();
    void moved(std::size_t bytes);
    [[nodiscard]] Deadline deadline() const { return deadline_; }

   private:
    const TransportLimits& limits_;
    Deadline deadline_ = no_deadline;
    std::size_t in_window_ = 0;
  };

  asio::awaitable<Status> read_into(std::span<std::byte> part, std::size_t& filled);
  asio::awaitable<Status> read_body(std::size_t length);
  asio::awaitable<Status> write_owned(Bytes body);
  asio::awaitable<Status> write_part(ByteSpan part, Progress& progress);
  [[nodiscard]] Deadline read_deadline() const;
  std::unexpected<Error> read_failed(Error error);

  std::unique_ptr<TlsStream> tls_;
  TransportLimits limits_;
  Deadline first_frame_deadline_;
  Progress read_progress_;
  std::array<std::byte, header_bytes> header_{};
  std::size_t header_filled_ = 0;
  Bytes body_;
  std::size_t body_filled_ = 0;
  bool first_frame_read_ = false;
  std::optional<Error> read_error_;
  std::optional<Error> write_error_;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

}  // namespace rivulet
