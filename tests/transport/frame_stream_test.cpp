#include <cstdlib>
#include <new>

#include "protocol/rng.h"
#include "tests/transport/fixture.h"

namespace {

/// The largest single allocation since it was last set to 0: shows that a length is judged before it costs
/// memory.
std::size_t largest_allocation_bytes = 0;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // They have operators of their own.
#define RIVULET_COUNTS_ALLOCATIONS 0
#else
#define RIVULET_COUNTS_ALLOCATIONS 1
#endif

}  // namespace

#if RIVULET_COUNTS_ALLOCATIONS
void* operator new(std::size_t size) {
  largest_allocation_bytes = std::max(largest_allocation_bytes, size);
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace rivulet {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t frame_bytes_max = 64 * 1024;

Bytes random_body(Rng& rng, std::size_t size) {
  Bytes body(size);
  for (std::byte& byte : body) byte = static_cast<std::byte>(rng());
  return body;
}

asio::awaitable<void> send_raw(TlsStream& stream, Bytes bytes) {
  const ByteSpan all(bytes);
  const Status sent = co_await stream.write_all(all, deadline_in(10s));
  CHECK(sent.has_value());
}

/// Sends `bytes` from a client that knows no frames. @return what the server's end reads.
Result<Bytes> read_after(Connected& pair, Bytes bytes, std::size_t limit_bytes, bool then_close) {
  pair.frame_server();
  Result<Bytes> result;
  run(pair.io,
      [](Connected& both, Bytes raw, std::size_t limit, bool end,
         Result<Bytes>& out) -> asio::awaitable<void> {
        co_await send_raw(*both.client_tls, std::move(raw));
        if (end) co_await both.client_tls->close(0ms);
        largest_allocation_bytes = 0;
        out = co_await both.server->read_frame(limit);
      }(pair, std::move(bytes), limit_bytes, then_close, result));
  return result;
}

TEST_CASE("a length of zero, above the limit or of 2^32 - 1 is refused without spending memory",
          "[transport][frame]") {
  struct Row {
    std::uint32_t length;
    std::size_t limit;
    Errc code;
  };
  const Row row =
      GENERATE(Row{0, 4096, Errc::corrupt}, Row{4097, 4096, Errc::too_large},
               Row{0xFFFFFFFFu, 4096, Errc::too_large}, Row{0xFFFFFFFFu, 1u << 30, Errc::too_large});
  CAPTURE(row.length, row.limit);
  Connected pair;
  Bytes wire;
  append_le(wire, row.length);
  const auto read = read_after(pair, wire, row.limit, false);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == row.code);
  CHECK(largest_allocation_bytes < 64 * 1024);
}

TEST_CASE("a frame of exactly the limit is read, and the limit may change between frames",
          "[transport][frame]") {
  Connected pair;
  pair.frame();
  run(pair.io, [](Connected& both) -> asio::awaitable<void> {
    Rng rng(7);
    const std::size_t sizes[] = {1, 4096, frame_bytes_max, frame_bytes_max + 1};
    for (const std::size_t size : sizes) {
      const Bytes sent = random_body(rng, size);
      const Status written = co_await both.client->write_frame(sent);
      CHECK(written.has_value());
      const std::size_t limit = std::min(size, frame_bytes_max);
      largest_allocation_bytes = 0;
      const Result<Bytes> read = co_await both.server->read_frame(limit);
      if (size > frame_bytes_max) {
        REQUIRE_FALSE(read.has_value());
        CHECK(read.error().code == Errc::too_large);
        CHECK_THAT(read.error().detail, contains("65537 bytes where 65536 are allowed"));
        const Result<Bytes> after = co_await both.server->read_frame(1 << 20);
        CHECK(after.error() == read.error());  // What follows cannot be told apart any more.
      } else {
        REQUIRE(read.has_value());
        CHECK(*read == sent);
        CHECK((!RIVULET_COUNTS_ALLOCATIONS || largest_allocation_bytes >= size));  // The count does count.
      }
    }
  }(pair));
}

TEST_CASE("a connection that ends within a frame is disconnected, not a short frame", "[transport][frame]") {
  const std::size_t sent =
      GENERATE(std::size_t{1}, std::size_t{3}, std::size_t{4}, std::size_t{5}, std::size_t{103});
  CAPTURE(sent);
  Connected pair;
  Bytes wire;
  append_le(wire, std::uint32_t{100});
  wire.resize(104);
  wire.resize(sent);
  const auto read = read_after(pair, wire, 4096, true);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == Errc::disconnected);
  CHECK_THAT(read.error().detail, contains("in the middle of a frame"));
}

TEST_CASE("a connection that ends between frames is disconnected", "[transport][frame]") {
  Connected pair;
  const auto read = read_after(pair, {}, 4096, true);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == Errc::disconnected);
  CHECK_THAT(read.error().detail, !contains("in the middle"));
}

asio::awaitable<void> send_frames(FrameStream& stream, std::uint64_t seed, int count, std::uint64_t& bytes) {
  Rng rng(seed);
  for (int index = 0; index < count; ++index) {
    Bytes body = random_body(rng, 100 + uniform_below(rng, frame_bytes_max - 100 + 1));
    bytes += 4 + body.size();
    Status sent;
    if (index % 3 == 0) {  // In three pieces, one of them perhaps empty.
      const ByteSpan whole(body);
      const std::size_t cut = uniform_below(rng, body.size());
      const std::array<ByteSpan, 3> pieces{whole.first(cut), whole.subspan(cut, 1), whole.subspan(cut + 1)};
      const std::span<const ByteSpan> all(pieces);
      sent = co_await stream.write_frame(all);
    } else if (index % 3 == 1) {
      uniform_below(rng, body.size());
      sent = co_await stream.write_frame(body);
    } else {
      uniform_below(rng, body.size());
      sent = co_await stream.write_frame(std::move(body));
    }
    CHECK(sent.has_value());
    if (!sent) co_return;
  }
}

asio::awaitable<void> receive_frames(FrameStream& stream, std::uint64_t seed, int count, int& equal) {
  Rng rng(seed);
  for (int index = 0; index < count; ++index) {
    const Bytes expected = random_body(rng, 100 + uniform_below(rng, frame_bytes_max - 100 + 1));
    uniform_below(rng, expected.size());
    const Result<Bytes> read = co_await stream.read_frame(frame_bytes_max);
    CHECK(read.has_value());
    if (!read) co_return;
    equal += *read == expected ? 1 : 0;
  }
}

TEST_CASE("a thousand frames each way at the same time arrive in order and equal", "[transport][frame]") {
  Connected pair;
  pair.frame();
  TaskGroup group(pair.io.get_executor(), [](std::string_view what) { WARN(std::string(what)); });
  std::uint64_t up = 0;
  std::uint64_t down = 0;
  int equal_up = 0;
  int equal_down = 0;
  group.spawn(send_frames(*pair.client, 1, 1000, up));
  group.spawn(send_frames(*pair.server, 2, 1000, down));
  group.spawn(receive_frames(*pair.server, 1, 1000, equal_up));
  group.spawn(receive_frames(*pair.client, 2, 1000, equal_down));
  run_until(pair.io, [&] { return group.running() == 0; });
  CHECK(equal_up == 1000);
  CHECK(equal_down == 1000);
  CHECK(pair.client->bytes_out() == up);
  CHECK(pair.server->bytes_in() == up);
  CHECK(pair.server->bytes_out() == down);
  CHECK(pair.client->bytes_in() == down);
}

/// Sends `step` bytes each 5 ms until it cannot, or `count` times.
asio::awaitable<void> trickle(TlsStream& stream, std::size_t step, int count) {
  const Bytes bytes(step, std::byte{'t'});
  for (int index = 0; index < count; ++index) {
    const Result<std::size_t> sent = co_await stream.write_some(bytes);
    if (!sent) co_return;
    const Status slept = co_await sleep_until(deadline_in(5ms));
    if (!slept) co_return;
  }
}

TransportLimits tight() {
  TransportLimits limits;
  limits.first_frame = 10s;
  limits.idle = 10s;
  limits.progress_window = 100ms;
  limits.progress_bytes = 1000;
  limits.linger = 10ms;
  return limits;
}

/// Sends a header that announces 4000 bytes, then trickles. @return what the server reads.
Result<Bytes> read_trickle(const TransportLimits& limits, std::size_t step, int count) {
  Connected pair(limits);
  pair.frame_server();
  Bytes header;
  append_le(header, std::uint32_t{4000});
  run(pair.io, send_raw(*pair.client_tls, header));
  TaskGroup group(pair.io.get_executor(), [](std::string_view what) { WARN(std::string(what)); });
  group.spawn(trickle(*pair.client_tls, step, count));
  Result<Bytes> result;
  run(pair.io, [](FrameStream& stream, Result<Bytes>& out) -> asio::awaitable<void> {
    out = co_await stream.read_frame(4096);
  }(*pair.server, result));
  run(pair.io, group.close());
  return result;
}

TEST_CASE("a peer that sends a few bytes now and then is dropped by the rule of progress",
          "[transport][frame]") {
  TransportLimits limits = tight();
  SECTION("in its first frame, which the rule judges before the frame's own time is up") {}
  SECTION("also when the frame's own time is short and the rule is lenient") {
    limits.first_frame = 100ms;
    limits.progress_window = 10s;
  }
  const auto started = std::chrono::steady_clock::now();
  const auto read = read_trickle(limits, 1, 10'000);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == Errc::timeout);
  const auto took = std::chrono::steady_clock::now() - started;
  CHECK(took >= 90ms);
  CHECK(took < 5s);
}

TEST_CASE("a slow peer that makes the least progress is kept for several windows", "[transport][frame]") {
  TransportLimits limits = tight();
  limits.progress_bytes = 100;  // It sends 80 bytes each 5 ms: fifty steps, more than two windows.
  const auto read = read_trickle(limits, 80, 50);
  REQUIRE(read.has_value());
  CHECK(read->size() == 4000);
}

TEST_CASE("a peer that does not read what we send is dropped by the rule of progress", "[transport][frame]") {
  Connected pair(tight());
  pair.frame();
  run(pair.io, [](FrameStream& stream) -> asio::awaitable<void> {
    const Bytes large(64u << 20);
    const Status sent = co_await stream.write_frame(large);
    REQUIRE_FALSE(sent.has_value());
    CHECK(sent.error().code == Errc::timeout);
    CHECK_THAT(sent.error().detail, contains("took less than 1000 bytes of a frame in 100 ms"));
    const Status again = co_await stream.write_frame(large);
    CHECK(again.error() == sent.error());
  }(*pair.server));
}

TEST_CASE("silence is limited, before the first frame and between two", "[transport][frame]") {
  TransportLimits limits = tight();
  limits.first_frame = 60ms;
  limits.idle = 80ms;
  Connected pair(limits);
  pair.frame();
  const bool first = GENERATE(true, false);
  run(pair.io, [](Connected& both, bool at_first) -> asio::awaitable<void> {
    const Bytes body(10);
    if (!at_first) {
      const Status sent = co_await both.client->write_frame(body);
      CHECK(sent.has_value());
      const Result<Bytes> opening = co_await both.server->read_frame(4096);
      CHECK(opening.has_value());
    }
    const Result<Bytes> read = co_await both.server->read_frame(4096);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().code == Errc::timeout);
    CHECK_THAT(read.error().detail,
               contains(at_first ? "its first frame within 60 ms" : "was silent for 80 ms"));
  }(pair, first));
}

TEST_CASE("a read that was cancelled in mid-frame goes on where it stopped", "[transport][frame]") {
  Connected pair;
  pair.frame_server();
  run(pair.io, [](Connected& both) -> asio::awaitable<void> {
    Bytes wire;
    append_le(wire, std::uint32_t{6});
    const ByteSpan text = bytes_of("rivers");
    wire.insert(wire.end(), text.begin(), text.end());
    co_await send_raw(*both.client_tls, Bytes(wire.begin(), wire.begin() + 7));
    asio::awaitable<Result<Bytes>> reading = both.server->read_frame(4096);
    const Result<Bytes> cut = co_await with_deadline(std::move(reading), deadline_in(30ms));
    REQUIRE_FALSE(cut.has_value());
    CHECK(cut.error().code == Errc::timeout);
    co_await send_raw(*both.client_tls, Bytes(wire.begin() + 7, wire.end()));
    const Result<Bytes> whole = co_await both.server->read_frame(4096);
    REQUIRE(whole.has_value());
    CHECK(text_of(*whole) == "rivers");
  }(pair));
}

}  // namespace
}  // namespace rivulet
