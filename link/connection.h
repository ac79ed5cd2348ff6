#pragma once

#include <asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "link/session_host.h"
#include "protocol/transport/frame_stream.h"
#include "protocol/transport/task_group.h"

namespace rivulet {

class Connection;

/// Who uses a connection: the coordinator's server or the node's agent driver. Calls come from the
/// connection's executor, and may use the connection at once.
class ConnectionUser {
 public:
  virtual ~ConnectionUser() = default;
  virtual void deliver(Connection& connection, Message message) = 0;
  /// A fetch has all its bytes: make them durable (BlobStore::finish_part).
  virtual void finish_fetch(Connection& connection, const ContentId& content) = 0;
  virtual void fetch_failed(Connection& connection, const ContentId& content, Error error) = 0;
  /// @return nothing if the peer may not have this content, or it is not here.
  virtual std::optional<ChunkList> chunk_list(const ContentId& content) = 0;
  /// Content bytes, for accounts and metrics.
  virtual void count_sent(std::uint64_t bytes) = 0;
  virtual void count_received(std::uint64_t bytes) = 0;
};

/// One connection in production: moves frames between a socket and a session until either ends. All
/// calls on the stream's executor.
class Connection final : private SessionOwner {
 public:
  struct End {
    Reason reason = Reason::none;  ///< none: the peer, or the network, went.
    std::string detail;
  };

  /// All references outlive the connection.
  Connection(std::unique_ptr<FrameStream> stream, core::Role role, const Limits& limits,
             core::CreditPool& credit, BlobStore& blobs, VerifiedParts& parts, ConnectionUser& user);
  ~Connection() override;

  /// Runs the session to its end. Call it once; the object outlives the task.
  asio::awaitable<void> run();
  /// Why it ended, or is about to.
  [[nodiscard]] const End& end() const { return end_; }

  void send(Message message);
  /// See Session::fetch.
  void fetch(const ContentId& content, std::uint64_t bytes_max);
  /// See Session::stop_fetch.
  void stop_fetch(const ContentId& content);
  /// Tells the peer, if it is known, and ends the connection.
  void close(Reason reason, std::string detail);

  [[nodiscard]] const PublicKey& peer_key() const { return stream_->peer_key(); }
  [[nodiscard]] const std::string& remote() const { return stream_->remote(); }
  [[nodiscard]] bool open() const { return host_.open(); }
  /// Whether it has ended, but for what was said before that is still on its way.
  [[nodiscard]] bool ended() const { return finished_; }

 private:
  void write_frame(Bytes frame) override;
  void deliver(Message message) override;
  void finish_fetch(const ContentId& content) override;
  void fetch_failed(const ContentId& content, Error error) override;
  std::optional<ChunkList> chunk_list(const ContentId& content) override { return user_.chunk_list(content); }
  void count_sent(std::uint64_t bytes) override { user_.count_sent(bytes); }
  void count_received(std::uint64_t bytes) override { user_.count_received(bytes); }
  void closed(Reason reason, const std::string& detail) override;

  asio::awaitable<void> read_all();
  asio::awaitable<void> write_all();
  asio::awaitable<void> watch_time();
  void rearm();

  std::unique_ptr<FrameStream> stream_;
  ConnectionUser& user_;
  SessionHost host_;
  std::deque<Bytes> frames_;
  asio::steady_timer written_;    // never expires; cancelled when there is something to write
  asio::steady_timer may_read_;   // never expires; cancelled when there may be room, or a judgement
  std::size_t queued_bytes_ = 0;  // of frames_
  bool being_judged_ = false;  // Has greeted: no more is read, under a stranger's limits, until it is known.
  asio::steady_timer wake_;    // the session's next deadline
  asio::steady_timer ended_;   // cancelled when the session has ended, and when its last frame is out
  bool finished_ = false;      // no more frames are queued; what is queued still goes out
  End end_;
  TaskGroup tasks_;
};

}  // namespace rivulet
