#pragma once

#include <memory>

#include "bench/fleet/board.h"
#include "link/connection.h"
#include "protocol/documents.h"
#include "protocol/keys.h"
#include "protocol/trust.h"

namespace rivulet::bench {

/// One node of the fleet: it joins, waits for a task, downloads the model, and offers a made-up update,
/// with everything the protocol asks for but training. All nodes run on one thread.
class SyntheticNode final : public ConnectionUser {
 public:
  /// @param board outlives the node. @return internal if OpenSSL refuses the key.
  static Result<std::unique_ptr<SyntheticNode>> make(Board& board, std::uint32_t number,
                                                     asio::any_io_executor executor);

  /// Connects and comes back after every end, until its task is told to stop. The node outlives it.
  asio::awaitable<void> live();
  /// "Training" is over: offer the update now, or on the next connection.
  void begin_upload();

  void deliver(Connection& connection, Message message) override;
  void finish_fetch(Connection& connection, const ContentId& content) override;
  void fetch_failed(Connection& connection, const ContentId& content, Error error) override;
  std::optional<ChunkList> chunk_list(const ContentId& content) override;
  void count_sent(std::uint64_t bytes) override;
  void count_received(std::uint64_t bytes) override;

 private:
  struct Work {
    TaskId task;
    ContentId snapshot;
    std::uint64_t snapshot_bytes = 0;
    Envelope offer;  // empty until it is first sent
    UpdateHeader header;
  };
  enum class Stage : std::uint8_t { joining, waiting, downloading, training, uploading, accepted, settled };

  SyntheticNode(Board& board, std::uint32_t number, asio::any_io_executor executor, TlsContext tls,
                SecretKey key);

  void take(const message::TrustChain& chain);
  void take(const message::Enrolled& enrolled);
  void take(const message::Welcome& welcome);
  void take(const message::Task& task);
  void take(const message::Receipt& receipt);
  void take(const message::Verdicts& verdicts);
  void take(const message::Refused& refused);
  void take(const message::Backoff& backoff);
  /// Assignments, cancellations and the like change nothing here.
  template <typename T>
  void take(const T&) {}

  Result<TrustDocument> judge(const message::TrustChain& chain) const;
  Result<Work> open(const message::Task& task) const;
  void offer();
  /// Ends the connection in mid-transfer; live() comes back.
  void cut_once(bool& done);
  void give_up(const std::string& detail);

  Board& board_;
  const std::uint32_t number_;
  asio::any_io_executor executor_;
  const TlsContext tls_;
  const SecretKey key_;
  core::CreditPool credit_;
  VerifiedParts parts_;
  NodeContents contents_;
  Connection* connection_ = nullptr;  // in live()'s frame
  std::uint64_t connections_ = 0;
  std::optional<TrustDocument> trust_;
  std::optional<Work> work_;
  Stage stage_ = Stage::joining;
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  bool cut_down_ = false;
  bool cut_up_ = false;
  bool said_ready_ = false;
};

}  // namespace rivulet::bench
