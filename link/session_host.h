#pragma once

#include <optional>

#include "link/verified_parts.h"
#include "protocol/core/session.h"
#include "storage/blob_store.h"

namespace rivulet {

/// What a session's surroundings do for it; the daemons and the virtual world each have their own.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  /// Put a frame on its way; SessionHost::on_writable() follows when it is gone.
  virtual void write_frame(Bytes frame) = 0;
  virtual void deliver(Message message) = 0;
  /// All bytes of a fetch are kept and verified: make them durable (BlobStore::finish_part).
  virtual void finish_fetch(const ContentId& content) = 0;
  virtual void fetch_failed(const ContentId& content, Error error) = 0;
  /// @return nothing if the peer may not have this content, or it is not here.
  virtual std::optional<ChunkList> chunk_list(const ContentId& content) = 0;
  /// Content bytes that went to, or came from, the peer.
  virtual void count_sent(std::uint64_t bytes) = 0;
  virtual void count_received(std::uint64_t bytes) = 0;
  /// The connection must go; nothing is called after it.
  virtual void closed(Reason reason, const std::string& detail) = 0;
};

/// Runs a session: carries out what it asks for on a blob store and by its owner, in order. The same
/// code in production and in the virtual world. Blob reads and writes are unsynced, and so fast
/// enough for the thread that serves the sockets. What is kept of a content is hashed in slices of 1 MiB,
/// one for each call of on_time(), and not again what `parts` knows as verified. Not thread-safe; owner
/// calls may come back into it.
class SessionHost {
 public:
  /// All references outlive the host.
  SessionHost(core::Role role, const Limits& limits, core::CreditPool& credit, BlobStore& blobs,
              VerifiedParts& parts, SessionOwner& owner, Now now)
      : session_(role, limits, credit, now), blobs_(blobs), parts_(parts), owner_(owner) {}

  void send(Message message, Now now);
  void on_frame(ByteSpan frame, Now now);
  void on_time(Now now);
  void on_writable(Now now);
  void close(Reason reason, std::string detail, Now now);
  /// @param bytes_max longer content is refused.
  void fetch(const ContentId& content, std::uint64_t bytes_max, Now now);
  void stop_fetch(const ContentId& content, Now now);

  [[nodiscard]] std::uint32_t frame_bytes_max() const { return session_.frame_bytes_max(); }
  /// When to call on_time() at the latest; the past while a part is being hashed.
  [[nodiscard]] MonotonicTime next_deadline() const;
  [[nodiscard]] bool open() const { return session_.open(); }
  [[nodiscard]] bool closed() const { return session_.closed(); }

 private:
  /// A kept part that has to be hashed before the rest of it is fetched.
  struct Opening {
    ContentId content;
    std::uint64_t at = 0;
    std::uint64_t length = 0;
  };

  void run(core::SessionEffects effects, Now now);
  void carry_out(core::SendFrame& effect, Now now);
  void carry_out(core::Deliver& effect, Now now);
  void carry_out(core::OpenContent& effect, Now now);
  void carry_out(core::ReadContent& effect, Now now);
  void carry_out(core::OpenPart& effect, Now now);
  void carry_out(core::TruncatePart& effect, Now now);
  void carry_out(core::AppendPart& effect, Now now);
  void carry_out(core::FinishPart& effect, Now now);
  void carry_out(core::FetchFailed& effect, Now now);
  void carry_out(core::CloseSession& effect, Now now);
  void enqueue(core::SessionEffects effects);
  void hash_slice(Now now);

  core::Session session_;
  BlobStore& blobs_;
  VerifiedParts& parts_;
  SessionOwner& owner_;
  std::optional<Opening> opening_;
  core::SessionEffects queue_;  // in order; owner calls while running add to its end
  bool running_ = false;
};

}  // namespace rivulet
