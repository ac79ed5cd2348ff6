#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "tests/transport/fixture.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;

/// The memory of this process that is in use, in bytes (proc(5), statm: resident pages).
std::size_t resident_bytes() {
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

asio::awaitable<void> answer_frames(FrameStream& stream) {
  for (;;) {
    Result<Bytes> read = co_await stream.read_frame(64 * 1024);
    if (!read) co_return;
    const Status sent = co_await stream.write_frame(std::move(*read));
    if (!sent) co_return;
  }
}

asio::awaitable<void> connect_and_ask(asio::any_io_executor executor, std::uint16_t port,
                                      const TlsContext& tls, std::vector<std::unique_ptr<FrameStream>>& out) {
  const Endpoint endpoint{"127.0.0.1", port};
  Result<std::unique_ptr<FrameStream>> stream = co_await connect(executor, endpoint, tls, deadline_in(20s));
  REQUIRE(stream.has_value());
  const Bytes question(20'000, std::byte{'q'});
  const Status sent = co_await (*stream)->write_frame(question);
  CHECK(sent.has_value());
  const Result<Bytes> answer = co_await (*stream)->read_frame(64 * 1024);
  CHECK((answer.has_value() && *answer == question));
  out.push_back(std::move(*stream));
}

TEST_CASE("an idle connection that has been in use costs little memory", "[transport][memory]") {
  constexpr std::size_t connections = 200;
  asio::io_context io;
  const TlsContext context = context_of(key_of(1));
  const TlsContext client_context = context_of(key_of(2));
  std::vector<std::unique_ptr<FrameStream>> clients;
  auto handler = [](Incoming incoming) {
    return [](Incoming own) -> asio::awaitable<void> {
      own.slot.release();
      co_await answer_frames(*own.stream);
    }(std::move(incoming));
  };
  const Endpoint any_port{"127.0.0.1", 0};
  auto opened = Listener::open(io.get_executor(), any_port, context, {}, handler, [](std::string_view) {});
  REQUIRE(opened.has_value());
  Listener& listener = **opened;
  listener.start();
  const std::uint16_t port = listener.local_endpoint().port;
  const auto more = [&] { run(io, connect_and_ask(io.get_executor(), port, client_context, clients)); };
  for (int index = 0; index < 10; ++index) more();  // What is paid once is paid by these.
  const std::size_t before = resident_bytes();
  for (std::size_t index = 0; index < connections; ++index) more();
  const std::size_t after = resident_bytes();
  // Both ends live in this process.
  const double per_side = (static_cast<double>(after) - static_cast<double>(before)) / (2.0 * connections);
  std::cout << "resident memory of one side of an idle TLS connection: " << per_side / 1024 << " KiB\n";
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // They keep what is freed.
  CHECK(per_side < 64.0 * 1024);
#endif
  clients.clear();
  run(io, listener.close());
}

}  // namespace
}  // namespace rivulet
