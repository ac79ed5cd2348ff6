#include "protocol/core/transfer.h"

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::core;

namespace {

Bytes random_content(std::size_t size, std::uint64_t seed) {
  Rng rng(seed);
  Bytes content(size);
  for (std::byte& b : content) b = static_cast<std::byte>(rng());
  return content;
}

}  // namespace

TEST_CASE("content is verified chunk by chunk, however it is cut", "[core][transfer]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 10));
  CAPTURE(seed);
  Rng rng(seed);
  const Bytes content = random_content(uniform_below(rng, 3 * chunk_bytes + 2), seed);
  ContentReceiver receiver(chunk_list_of(content));
  while (!receiver.complete()) {
    const std::uint64_t left = content.size() - receiver.received();
    const ByteSpan next = ByteSpan(content).subspan(
        receiver.received(), 1 + uniform_below(rng, std::min<std::uint64_t>(left, 300000)));
    REQUIRE(receiver.take(next));
  }
  CHECK(receiver.received() == content.size());
  if (!content.empty()) CHECK(receiver.take(ByteSpan(content).first(1)).error().code == Errc::corrupt);
}

TEST_CASE("one wrong byte costs the chunk that it is in, and nothing before", "[core][transfer]") {
  const Bytes content = random_content(2 * chunk_bytes + 100, 1);
  Bytes wrong = content;
  wrong[chunk_bytes + 5] ^= std::byte{1};
  ContentReceiver receiver(chunk_list_of(content));
  CHECK(receiver.take(ByteSpan(wrong).first(chunk_bytes + 10)));
  CHECK(receiver.take(ByteSpan(wrong).subspan(chunk_bytes + 10)).error().code == Errc::corrupt);
  CHECK(receiver.received() == chunk_bytes);
  CHECK(receiver.take(ByteSpan(content).subspan(chunk_bytes)));
  CHECK(receiver.complete());
}

TEST_CASE("credit never exceeds the pool", "[core][transfer]") {
  CreditPool pool(100);
  CHECK(pool.acquire(60, 10) == 60);
  CHECK(pool.acquire(60, 10) == 40);
  CHECK(pool.acquire(60, 10) == 0);
  pool.release(9);
  CHECK(pool.acquire(60, 10) == 0);
  CHECK(pool.available() == 9);
}
