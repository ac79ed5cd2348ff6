#pragma once

#include <asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "protocol/codec/codec.h"
#include "protocol/content.h"
#include "protocol/documents.h"
#include "protocol/message.h"
#include "tests/transport/fixture.h"

namespace rivulet {

/// A frame as it lies on the wire: the length that it claims, and a body.
Bytes frame_of(std::uint32_t length, ByteSpan body);
inline Bytes frame_of(ByteSpan body) { return frame_of(static_cast<std::uint32_t>(body.size()), body); }
Bytes random_content(Rng& rng, std::size_t bytes);

/// A peer in order as far as TLS goes, which says whatever a test wants, byte by byte. Time passes for it in
/// its await functions and in run_until().
class Peer {
 public:
  /// What it brings when the coordinator fetches a content.
  struct Upload {
    ChunkList list;
    Bytes data;
    /// Instead of the chunks; gets the fetch that grants credit.
    std::function<void(Peer& peer, const message::Fetch& fetch)> misbehave;
    bool keeps_list = false;  ///< Says nothing at all.
  };

  Peer(asio::io_context& io, SecretKey own);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Connects and shakes hands. @param reads false: it never takes a byte from its socket again.
  void dial(const Endpoint& server, bool reads = true);
  /// Ends the connection without a word.
  void hang_up();
  void send_bytes(Bytes bytes);
  void send(const Message& message) { send_bytes(frame_of(encode(message))); }
  void hello(const FleetId& fleet) { send(message::Hello{1, 1, fleet, "hostile"}); }
  void enrol(const FleetId& fleet, const JoinSecret& secret) {
    send(message::Enrol{1, 1, fleet, "hostile", secret});
  }

  /// The newest message of one kind since `heard` was cleared; null if there is none.
  template <typename T>
  [[nodiscard]] const T* last() const {
    for (auto at = heard.rbegin(); at != heard.rend(); ++at) {
      if (const auto* message = std::get_if<T>(&*at)) return message;
    }
    return nullptr;
  }
  template <typename T>
  T await() {
    run_until(io_, [&] { return last<T>() != nullptr; });
    return *last<T>();
  }
  /// … that came after what is forgotten now.
  template <typename T>
  T ask(const Message& question) {
    heard.clear();
    send(question);
    return await<T>();
  }
  /// Until the other side has ended the connection; then it ends here too.
  void await_end() {
    run_until(io_, [&] { return ended; });
    hang_up();
  }
  /// Content that the coordinator serves. @return empty if it says that it has no such content.
  Bytes fetch(const ContentId& content, std::uint64_t bytes);

  /// The header of an update that answers `task` in the best of orders.
  [[nodiscard]] UpdateHeader header_for(const message::Task& task, ByteSpan content,
                                        std::uint64_t samples) const;
  /// Puts the content ready and sends the offer.
  void offer(const UpdateHeader& header, Bytes content);
  /// The same for a delta in the task's codec. @return what was offered.
  UpdateHeader offer(const message::Task& task, const std::vector<float>& delta, std::uint64_t samples);
  [[nodiscard]] Envelope sealed(const UpdateHeader& header) const;

  const SecretKey key;
  std::vector<Message> heard;
  std::map<ContentId, Upload> uploads;
  std::uint64_t bytes_sent = 0;
  bool ended = true;

 private:
  asio::awaitable<void> shake(std::optional<Status>& status);
  asio::awaitable<void> read_all();
  asio::awaitable<void> write_all();
  void take(Message message);
  void serve(const message::Fetch& fetch);
  void spawn(asio::awaitable<void> task);

  asio::io_context& io_;
  TlsContext tls_;
  std::unique_ptr<TlsStream> stream_;
  asio::steady_timer waiting_;  // never expires; cancelled when there is something to write
  std::deque<Bytes> outbox_;
  int running_ = 0;
  bool closing_ = false;
};

}  // namespace rivulet
