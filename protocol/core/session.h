#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/core/transfer.h"
#include "protocol/limits.h"
#include "protocol/message.h"
#include "protocol/now.h"

namespace rivulet::core {

enum class Role : std::uint8_t { node, coordinator };

// What a session asks of its driver, in order.

/// Write this frame's body behind its length. After the driver has written it, it calls on_writable().
struct SendFrame {
  Bytes frame;
};
/// A message for the agent or the coordinator; transfers and heartbeats are the session's own.
struct Deliver {
  Message message;
};
/// The peer wants this content: answer with content_opened() or content_missing().
struct OpenContent {
  ContentId content;
};
/// Answer with content_read() or content_missing().
struct ReadContent {
  ContentId content;
  std::uint64_t offset;
  std::uint32_t size;
};
/// Content begins to arrive. Of what is kept of it name to part_verified() what was verified before, if
/// any, and feed the rest to part_read() in order, at leisure while opens_part() holds; then part_ready().
struct OpenPart {
  ContentId content;
  ChunkList list;
};
/// Keep only the first `length` bytes of the part.
struct TruncatePart {
  ContentId content;
  std::uint64_t length;
};
/// Keep these bytes at `offset`, which is the part's length. No sync is needed yet. When they are
/// written, part_written() lets the peer send as many more.
struct AppendPart {
  ContentId content;
  std::uint64_t offset;
  Bytes data;
};
/// All of the part arrived and is verified: make it durable.
struct FinishPart {
  ContentId content;
};
/// A transfer that fetch() started has ended without its content.
struct FetchFailed {
  ContentId content;
  Error error;
};
/// Close the connection; nothing comes after it.
struct CloseSession {
  Reason reason;
  std::string detail;
};

using SessionEffect = std::variant<SendFrame, Deliver, OpenContent, ReadContent, OpenPart, TruncatePart,
                                   AppendPart, FinishPart, FetchFailed, CloseSession>;
using SessionEffects = std::vector<SessionEffect>;

/// One connection's protocol on either side, without sockets, files or clocks: what may be said when,
/// limits, heartbeats, and one transfer in each direction. Drivers feed it frames and time and carry
/// out its effects in order; production does so with Asio, tests and the simulator with a virtual
/// network. Not thread-safe.
///
/// Phases of the coordinator's side: it sends its trust chain and waits for `hello` or `enrol`; all else
/// is refused and only small frames are read, until the coordinator welcomes the peer. The node's side
/// waits for the chain, then for `welcome`.
class Session {
 public:
  /// @param credit shared by all sessions of a process; outlives them.
  Session(Role role, const Limits& limits, CreditPool& credit, Now now);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// A message of the agent or coordinator. `welcome` (sent or received) opens the session; `refused`,
  /// `backoff` and `enrolled` end it after they are sent.
  [[nodiscard]] SessionEffects send(Message message, Now now);
  /// One frame's body from the peer. Malformed or misplaced ones end the session.
  [[nodiscard]] SessionEffects on_frame(ByteSpan frame, Now now);
  /// Acts on deadlines that have passed; call it at next_deadline() or later.
  [[nodiscard]] SessionEffects on_time(Now now);
  /// The socket has taken all frames so far.
  [[nodiscard]] SessionEffects on_writable(Now now);
  /// Ends the session on the driver's wish; the peer is told if it is known.
  [[nodiscard]] SessionEffects close(Reason reason, std::string detail);

  /// Starts to fetch content from the peer; replaces a fetch that is under way (whose part is kept).
  /// @param bytes_max longer content is refused. Ends in FinishPart or FetchFailed.
  [[nodiscard]] SessionEffects fetch(const ContentId& content, std::uint64_t bytes_max, Now now);
  /// Ends the fetch of this content, if it is under way, without another word of it.
  [[nodiscard]] SessionEffects stop_fetch(const ContentId& content);
  /// Whether the session waits for what is kept of this part.
  [[nodiscard]] bool opens_part(const ContentId& content) const;
  void part_verified(std::uint64_t bytes);
  [[nodiscard]] SessionEffects part_read(ByteSpan bytes);
  [[nodiscard]] SessionEffects part_ready(Now now);
  [[nodiscard]] SessionEffects part_written(std::uint32_t bytes, Now now);
  /// The part cannot be kept: the fetch ends with FetchFailed{error}.
  [[nodiscard]] SessionEffects part_failed(Error error);

  [[nodiscard]] SessionEffects content_opened(const ContentId& content, const ChunkList& list);
  [[nodiscard]] SessionEffects content_read(const ContentId& content, std::uint64_t offset, Bytes data);
  [[nodiscard]] SessionEffects content_missing(const ContentId& content);

  /// The largest frame that may be read now; the driver refuses a longer one by its length alone.
  [[nodiscard]] std::uint32_t frame_bytes_max() const;
  [[nodiscard]] MonotonicTime next_deadline() const;
  [[nodiscard]] bool open() const { return phase_ == Phase::open; }
  [[nodiscard]] bool closed() const { return phase_ == Phase::closed; }

 private:
  enum class Phase : std::uint8_t { greeting, open, closed };

  struct Incoming {
    enum class Step : std::uint8_t { listing, opening, waiting_for_credit, receiving, finished };
    ContentId content;
    std::uint64_t bytes_max;
    Step step = Step::listing;
    std::optional<ContentReceiver> receiver;
    std::uint64_t window = 0;      // held from the pool
    std::uint64_t in_flight = 0;   // granted and not yet arrived
    std::uint64_t unwritten = 0;   // arrived and not yet written
    std::uint64_t written = 0;     // arrived and written, to be granted again
    MonotonicTime credit_asked{};  // when the pool last had none for it
    std::uint64_t window_received = 0;
    MonotonicTime window_start{};
  };
  struct Outgoing {
    ContentId content;
    std::optional<ChunkList> list;
    std::uint64_t offset = 0;
    std::uint64_t credit = 0;
    bool list_wanted = false;
    bool reading = false;
  };

  void emit(SessionEffect effect) { effects_.push_back(std::move(effect)); }
  SessionEffects take();
  void transmit(const Message& message, Now now);
  void end(Reason reason, std::string detail, bool tell_peer);
  void accept_greeting(Message message, Now now);
  void accept_open(Message message, Now now);
  // receiving.cpp
  void on_list(message::ContentList list);
  void on_chunk(message::Chunk chunk, Now now);
  void begin_receiving(Now now);
  void fail_fetch(Error error);
  void on_missing(const message::NoContent& missing);
  void release_window();
  void check_progress(Now now);
  void pump();

  // sending.cpp
  void on_fetch(const message::Fetch& fetch);
  void on_credit(const message::Credit& credit);
  const Role role_;
  const Limits& limits_;
  CreditPool& credit_;
  Phase phase_ = Phase::greeting;
  bool trust_requested_ = false;
  bool greeted_ = false;
  bool ready_said_ = false;
  std::chrono::milliseconds heartbeat_interval_;  ///< A node takes the coordinator's, if it is shorter.
  MonotonicTime opened_at_;
  MonotonicTime last_received_;
  MonotonicTime last_sent_;
  bool writable_ = true;
  std::optional<Incoming> incoming_;
  std::optional<Outgoing> outgoing_;
  SessionEffects effects_;
};

}  // namespace rivulet::core
