#include "link/session_host.h"

#include <memory>
#include <utility>

#include "protocol/rng.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/forwarding_blobs.h"

using namespace rivulet;

namespace {

constexpr std::uint64_t mib = 1 << 20;

Bytes random_content(std::size_t size) {
  Rng rng(7);
  Bytes content(size);
  for (std::byte& b : content) b = static_cast<std::byte>(rng());
  return content;
}

/// Counts the bytes of parts that are read, which is only ever done to hash them.
class CountingBlobs final : public rivulet::testing::ForwardingBlobs {
 public:
  using ForwardingBlobs::ForwardingBlobs;
  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    auto bytes = ForwardingBlobs::read_part(id, offset, size);
    if (bytes) read_bytes += bytes->size();
    return bytes;
  }
  mutable std::uint64_t read_bytes = 0;
};

/// A coordinator's process and disk; `host` is the session of the node that is connected.
class Uploading final : private SessionOwner {
 public:
  explicit Uploading(std::size_t size) : content(random_content(size)), list(chunk_list_of(content)) {}

  void connect() {
    frames.clear();
    finished = false;
    host = std::make_unique<SessionHost>(core::Role::coordinator, limits, credit, blobs, *parts,
                                         static_cast<SessionOwner&>(*this), now);
    hear(message::Hello{1, 1, {}, "node"});
    host->send(message::Welcome{1, {}, 60}, now);
    REQUIRE(host->open());
  }
  /// The process ends, its disk stays.
  void restart() {
    host.reset();
    parts = std::make_unique<VerifiedParts>();
    connect();
  }
  void hear(const Message& message) { host->on_frame(encode(message), now); }
  /// As an offer makes the coordinator do; the node answers with the list.
  void fetch() {
    host->fetch(id(), content.size(), now);
    hear(message::ContentList{id(), list});
  }
  /// Time passes until nothing more is due at once. @return how often on_time() was called.
  int settle() {
    int calls = 0;
    for (; host->next_deadline() <= now.monotonic; ++calls) host->on_time(now);
    return calls;
  }
  /// What the node sends from `from` on, up to the byte `end`.
  void upload(std::uint64_t from, std::uint64_t end) {
    for (std::uint64_t at = from; at < end;) {
      const std::uint64_t border = (at / chunk_bytes + 1) * chunk_bytes;
      const std::uint64_t size = std::min({std::uint64_t{32 * 1024}, end - at, border - at});
      hear(message::Chunk{id(), at, copy_of(ByteSpan(content).subspan(at, size))});
      at += size;
    }
  }
  /// Where the coordinator wants the content to go on; nothing while it has not said so.
  [[nodiscard]] std::optional<std::uint64_t> wanted_from() const {
    for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame) {
      const Message message = decode_message(*frame).value();
      const auto* fetch = std::get_if<message::Fetch>(&message);
      if (fetch != nullptr) return fetch->want_list ? std::nullopt : std::optional(fetch->offset);
    }
    return std::nullopt;
  }
  /// The disk changes one byte of the part.
  void damage(std::uint64_t at) {
    const std::uint64_t length = blobs.part_length(id()).value();
    Bytes rest = memory->read_part(id(), at, length - at).value();
    rest.front() ^= std::byte{1};
    REQUIRE(memory->truncate_part(id(), at));
    REQUIRE(memory->append_part(id(), at, rest));
  }
  [[nodiscard]] ContentId id() const { return list.id(); }

  const Bytes content;
  const ChunkList list;
  MemoryDisk disk;
  std::unique_ptr<BlobStore> memory = make_memory_blob_store(disk);
  CountingBlobs blobs{*memory};
  core::CreditPool credit{64 << 20};
  std::unique_ptr<VerifiedParts> parts = std::make_unique<VerifiedParts>();
  Limits limits;
  Now now{std::chrono::hours(1), UtcTime(std::chrono::seconds(1'800'000'000))};
  std::vector<Bytes> frames;
  bool finished = false;
  std::unique_ptr<SessionHost> host;

 private:
  void write_frame(Bytes frame) override { frames.push_back(std::move(frame)); }
  void deliver(Message) override {}
  void finish_fetch(const ContentId&) override { finished = true; }
  void fetch_failed(const ContentId&, Error) override {}
  std::optional<ChunkList> chunk_list(const ContentId&) override { return std::nullopt; }
  void count_sent(std::uint64_t) override {}
  void count_received(std::uint64_t) override {}
  void closed(Reason, const std::string&) override {}
};

void finish(Uploading& fleet, std::uint64_t from) {
  fleet.upload(from, fleet.content.size());
  REQUIRE(fleet.finished);
  REQUIRE(fleet.memory->finish_part(fleet.id()));
  CHECK(fleet.memory->read_all(fleet.id()).value() == fleet.content);
}

}  // namespace

TEST_CASE("content that is offered again and again is not hashed again", "[link]") {
  Uploading fleet(20 * mib);
  const std::uint64_t kept = 12 * mib + mib / 2 + 5;
  fleet.connect();
  fleet.fetch();
  fleet.upload(0, kept);
  CHECK(fleet.blobs.read_bytes == 0);
  constexpr int offers = 40;
  SECTION("by a node that connects anew each time") {
    for (int i = 0; i < offers; ++i) {
      fleet.connect();
      fleet.fetch();
      CHECK(fleet.settle() == 0);
      REQUIRE(fleet.wanted_from() == kept);
    }
  }
  SECTION("in one session") {
    for (int i = 0; i < offers; ++i) {
      fleet.fetch();
      CHECK(fleet.settle() == 0);
      REQUIRE(fleet.wanted_from() == kept);
    }
  }
  // Of each offer the one chunk that has not ended yet.
  CHECK(fleet.blobs.read_bytes == offers * (mib / 2 + 5));
  finish(fleet, kept);
}

TEST_CASE("after a restart a part is hashed once, in slices that let others run", "[link]") {
  Uploading fleet(20 * mib);
  const std::uint64_t kept = 12 * mib + 17;
  fleet.connect();
  fleet.fetch();
  fleet.upload(0, kept);
  fleet.restart();
  fleet.fetch();
  CHECK(fleet.blobs.read_bytes == mib);
  CHECK_FALSE(fleet.wanted_from());
  std::uint64_t before = fleet.blobs.read_bytes;
  int calls = 0;
  for (; fleet.host->next_deadline() <= fleet.now.monotonic; ++calls) {
    fleet.host->on_time(fleet.now);
    CHECK(fleet.blobs.read_bytes - std::exchange(before, fleet.blobs.read_bytes) <= mib);
  }
  CHECK(calls == 12);
  REQUIRE(fleet.wanted_from() == kept);
  CHECK(fleet.blobs.read_bytes == kept);

  SECTION("and is known from then on") {
    fleet.connect();
    fleet.fetch();
    REQUIRE(fleet.wanted_from() == kept);
    CHECK(fleet.blobs.read_bytes == kept + 17);
  }
  finish(fleet, kept);
}

TEST_CASE("hashing that a new offer interrupts goes on where it was", "[link]") {
  Uploading fleet(20 * mib);
  const std::uint64_t kept = 16 * mib;
  fleet.connect();
  fleet.fetch();
  fleet.upload(0, kept);
  fleet.restart();
  for (int i = 0; i < 16; ++i) {
    CHECK_FALSE(fleet.wanted_from());
    if (i % 2 == 0) fleet.connect();
    fleet.fetch();
  }
  REQUIRE(fleet.wanted_from() == kept);
  CHECK(fleet.blobs.read_bytes == kept);
  finish(fleet, kept);
}

TEST_CASE("a part that the disk damaged is found by the first to hash it, and taken up before the damage",
          "[link]") {
  Uploading fleet(20 * mib);
  const std::uint64_t kept = 16 * mib + 3;
  fleet.connect();
  fleet.fetch();
  fleet.upload(0, kept);
  fleet.damage(9 * mib + 1000);
  fleet.restart();
  fleet.fetch();
  SECTION("at once") {}
  SECTION("after a fetch that ended in the middle, of which nothing is taken for verified") {
    fleet.host->on_time(fleet.now);
    fleet.host->stop_fetch(fleet.id(), fleet.now);
    CHECK(fleet.settle() == 1);
    CHECK(fleet.parts->find(fleet.id()) == 2 * mib);
    CHECK(fleet.blobs.read_bytes == 2 * mib);
    fleet.fetch();
  }
  fleet.settle();
  REQUIRE(fleet.wanted_from() == 9 * mib);
  CHECK(fleet.memory->part_length(fleet.id()).value() == 9 * mib);
  finish(fleet, 9 * mib);
}

TEST_CASE("a part that went, and came again with other bytes behind, is hashed from where it is new",
          "[link]") {
  Uploading fleet(20 * mib);
  fleet.connect();
  fleet.fetch();
  fleet.upload(0, 12 * mib);
  // As when the task that wanted it ended, and another one wants the same content.
  fleet.host->stop_fetch(fleet.id(), fleet.now);
  REQUIRE(fleet.memory->erase_part(fleet.id()));
  fleet.fetch();
  REQUIRE(fleet.wanted_from() == 0);
  fleet.upload(0, 2 * mib + 1);
  fleet.connect();
  fleet.fetch();
  REQUIRE(fleet.wanted_from() == 2 * mib + 1);
  CHECK(fleet.blobs.read_bytes == 1);
  finish(fleet, 2 * mib + 1);
}

TEST_CASE("what is known of parts has a bound, and what was used last stays", "[link]") {
  VerifiedParts parts(2);
  const auto id = [](unsigned char n) { return content_id_of(Bytes{std::byte{n}}); };
  parts.set(id(1), 5 * mib + 7);
  CHECK(parts.find(id(1)) == 5 * mib);
  parts.set(id(2), 2 * mib);
  CHECK(parts.find(id(1)) == 5 * mib);
  parts.set(id(3), 3 * mib);
  CHECK(parts.find(id(2)) == 0);
  CHECK(parts.find(id(1)) == 5 * mib);
  CHECK(parts.find(id(3)) == 3 * mib);
  parts.set(id(1), mib - 1);
  CHECK(parts.find(id(1)) == 0);
}
