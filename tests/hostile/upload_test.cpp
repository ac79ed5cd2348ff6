// Uploads that are not what was announced, that come in part, or that find no room.
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "tests/hostile/invited_round.h"

using namespace rivulet;
using nlohmann::json;

namespace {

/// This process can open no file, as long as it lives.
class NoMoreFiles {
 public:
  NoMoreFiles() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit few{256, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    take_all();
  }
  ~NoMoreFiles() {
    for (const int file : taken_) ::close(file);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  NoMoreFiles(const NoMoreFiles&) = delete;
  NoMoreFiles& operator=(const NoMoreFiles&) = delete;

  void take_all() {
    for (int file = 0; (file = ::dup(2)) >= 0;) taken_.push_back(file);
  }

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

}  // namespace

TEST_CASE("an upload that is not what was announced is cut off or refused", "[hostile]") {
  const Bytes good = encoded(Codec::fp32, fair);
  const auto chunk = [](std::uint64_t offset, Bytes data) {
    return [offset, data](Peer& peer, const message::Fetch& fetch) {
      peer.send(message::Chunk{fetch.content, offset, data});
    };
  };
  struct Case {
    const char* what;
    bool cut_off;  ///< Else it is answered with a receipt.
    Reason reason;
    std::function<void(UpdateHeader& header, Peer::Upload& upload)> misbehave;
  };
  const std::vector<Case> cases{
      {"changed bytes", true, Reason::corrupt_content,
       [](UpdateHeader&, Peer::Upload& upload) { upload.data[20] ^= std::byte{1}; }},
      {"a chunk list that is not the content's", true, Reason::corrupt_content,
       [](UpdateHeader&, Peer::Upload& upload) { upload.list.chunks[0].bytes[0] ^= std::byte{1}; }},
      {"a chunk list with a chunk too many", true, Reason::corrupt_content,
       [](UpdateHeader&, Peer::Upload& upload) { upload.list.chunks.emplace_back(); }},
      {"a chunk from elsewhere", true, Reason::corrupt_content,
       [&](UpdateHeader&, Peer::Upload& upload) { upload.misbehave = chunk(5, good); }},
      {"a chunk of nothing", true, Reason::corrupt_content,
       [&](UpdateHeader&, Peer::Upload& upload) { upload.misbehave = chunk(0, {}); }},
      {"more than was granted", true, Reason::corrupt_content,
       [&](UpdateHeader&, Peer::Upload& upload) { upload.misbehave = chunk(0, Bytes(60'000)); }},
      {"more than was announced", false, Reason::too_large,
       [&](UpdateHeader& header, Peer::Upload& upload) {
         const Bytes long_one(2 << 20, std::byte{1});
         header.content = content_id_of(long_one);
         upload = {chunk_list_of(long_one), long_one, {}};
       }},
      {"less than was announced", false, Reason::corrupt_content,
       [&](UpdateHeader& header, Peer::Upload& upload) {
         const Bytes short_one(good.begin(), good.begin() + 24);
         header.content = content_id_of(short_one);
         upload = {chunk_list_of(short_one), short_one, {}};
       }},
  };
  InvitedRound round(static_cast<std::uint32_t>(cases.size()) + 1, 1, Codec::fp32);
  HostileWorld& world = round.world;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& one = cases[i];
    CAPTURE(one.what);
    Peer& liar = round.peer(i);
    UpdateHeader header = round.header(i, good);
    Peer::Upload upload{chunk_list_of(good), good, {}};
    one.misbehave(header, upload);
    liar.uploads[header.content] = upload;
    Expected expected =
        one.cut_off ? expect_cut_off(world, one.reason) : expect_receipt(world, "refused", one.reason);
    liar.offer(header, {});
    if (one.cut_off) {
      CHECK(name(liar.await<message::Refused>().reason) == name(one.reason));
      liar.await_end();
    } else {
      refused(liar, one.reason);
    }
    expected.check();
  }
  // One that was cut off comes again with what it announced.
  Peer& sorry = round.peer(0);
  world.session(sorry);
  sorry.uploads.clear();
  const std::vector<float> before = world.weights(1);
  sorry.offer(round.header(0, good), good);
  accepted(sorry);
  CHECK(world.ended_round().at("state") == "published");
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
}

TEST_CASE("an update that is offered again under another length counts as what it is, and spoils no round",
          "[hostile]") {
  InvitedRound round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(0);
  const Bytes content = encoded(Codec::fp32, fair);
  const UpdateHeader header = round.header(0, content);
  UpdateHeader shorter = header;
  shorter.content_bytes -= 1;
  // The second offer comes while the content is on its way, and before its last byte.
  liar.uploads[header.content] = {chunk_list_of(content), content,
                                  [&](Peer& peer, const message::Fetch& fetch) {
                                    peer.send(message::Offer{peer.sealed(shorter)});
                                    peer.send(message::Chunk{fetch.content, 0, content});
                                  }};
  Expected expected = expect_receipt(world, "duplicate", Reason::duplicate_content);
  liar.offer(header, {});
  run_until(world.io, [&] {
    const auto* receipt = liar.last<message::Receipt>();
    return receipt != nullptr && receipt->outcome == message::ReceiptOutcome::accepted;
  });
  expected.check();
  round.peer(1).offer(round.tasks[1], fair, 10);
  accepted(round.peer(1));
  const std::vector<float> before = world.weights(1);
  const json ended = world.ended_round();
  INFO(ended.dump());
  CHECK(ended.at("state") == "published");
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
}

TEST_CASE("a coordinator that has no file left sends a node away, and takes its update later", "[hostile]") {
  InvitedRound round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& node = round.peer(0);
  const std::size_t mark = LogLines::mark();
  {
    NoMoreFiles none;
    const Bytes content = encoded(Codec::fp32, fair);
    const UpdateHeader header = round.header(0, content);
    node.uploads[header.content] = {chunk_list_of(content), content,
                                    [&](Peer& peer, const message::Fetch& fetch) {
                                      none.take_all();  // Also what was closed in the meantime.
                                      peer.send(message::Chunk{fetch.content, 0, content});
                                    }};
    node.offer(header, {});
    CHECK(node.await<message::Backoff>().reason == Reason::overloaded);
    node.await_end();
  }
  CHECK(LogLines::since(mark, {"transfer_failed ", "Too many open files"}).size() == 1);
  CHECK(LogLines::since(mark, {"storage_failed "}).empty());
  node.uploads.clear();
  world.session(node);
  for (const std::size_t i : {0U, 1U}) {
    round.peer(i).offer(round.tasks[i], fair, 10);
    accepted(round.peer(i));
  }
  CHECK(world.ended_round().at("state") == "published");
}

TEST_CASE("what a node sends in part does not stay, whatever it offers next", "[hostile]") {
  InvitedRound round(3, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(2);
  const auto part_of = [&](const UpdateHeader& header) {
    return world.fleet.folder / "blobs" / (header.content.hex() + ".part");
  };
  const auto length_of = [](const std::filesystem::path& file) {
    std::error_code missing;
    const auto length = std::filesystem::file_size(file, missing);
    return missing ? 0 : length;
  };
  // All but the last number of one content, then of another one.
  std::vector<UpdateHeader> offered;
  const auto offer_another = [&] {
    const Bytes content =
        encoded(Codec::fp32, std::vector<float>(entries, static_cast<float>(offered.size())));
    const UpdateHeader& header = offered.emplace_back(round.header(2, content));
    liar.uploads[header.content] = {
        chunk_list_of(content), content, [content](Peer& peer, const message::Fetch& fetch) {
          peer.send(message::Chunk{fetch.content, 0, Bytes(content.begin(), content.end() - 4)});
        }};
    liar.offer(header, {});
  };
  for (int i = 0; i < 4; ++i) {
    offer_another();
    run_until(world.io, [&] { return length_of(part_of(offered.back())) > 0; });
    for (std::size_t before = 0; before + 1 < offered.size(); ++before)
      CHECK_FALSE(std::filesystem::exists(part_of(offered[before])));
  }
  offer_another();
  CHECK(liar.await<message::Receipt>().outcome == message::ReceiptOutcome::duplicate);
  CHECK_FALSE(std::filesystem::exists(part_of(offered.back())));

  // The last one stays for a node that lost its connection, also over a restart, until its task ends.
  const auto last = part_of(offered[3]);
  liar.hang_up();
  if (GENERATE(false, true)) {
    REQUIRE(world.stop().has_value());
    for (Peer* peer : round.peers) peer->hang_up();
    CHECK(length_of(last) > 0);
    world.start();
    for (const std::size_t i : {0U, 1U}) world.session(round.peer(i));
  }
  CHECK(length_of(last) > 0);
  for (const std::size_t i : {0U, 1U}) {
    round.peer(i).offer(round.tasks[i], fair, 10);
    accepted(round.peer(i));
  }
  run_until(world.io, [&] { return !std::filesystem::exists(last); });
  CHECK(world.ended_round().at("state") == "published");
}
