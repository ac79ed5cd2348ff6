#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "protocol/codec/codec.h"
#include "tests/hostile/world.h"

using namespace rivulet;
using nlohmann::json;

namespace {

constexpr std::size_t entries = 9;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
const std::vector<float> fair(entries, 0.5F);

template <typename T>
Bytes with(Bytes bytes, std::size_t at, T value) {
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

Bytes encoded(Codec codec, const std::vector<float>& delta) {
  Rng rng(1);
  return encode(codec, delta, rng).value();
}

/// A fleet of `cohort` nodes whose round closes with the `goal`-th accepted update.
struct Invited {
  Invited(std::uint32_t cohort, std::uint32_t goal, Codec codec)
      : world([&](coordinator::ConfigFile& config) {
          config.core.round.cohort = cohort;
          config.core.round.goal = goal;
          config.core.round.updates_min = 1;
          config.core.delta.codec = codec;
        }) {
    world.import();
    for (std::uint32_t i = 0; i < cohort; ++i) {
      nodes.push_back(world.member());
      peers.push_back(nodes.back().get());
    }
    tasks = world.round(peers);
  }
  Peer& peer(std::size_t i) { return *peers.at(i); }
  UpdateHeader header(std::size_t i, ByteSpan content, std::uint64_t samples = 10) {
    UpdateHeader made = peer(i).header_for(tasks.at(i), content, samples);
    made.parameter_count = entries;
    return made;
  }

  HostileWorld world;
  std::vector<std::unique_ptr<Peer>> nodes;
  std::vector<Peer*> peers;
  std::vector<message::Task> tasks;
};

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

void refused(Peer& peer, Reason reason) {
  const auto receipt = peer.await<message::Receipt>();
  CHECK(receipt.outcome == message::ReceiptOutcome::refused);
  CHECK(name(receipt.reason) == name(reason));
  CHECK_FALSE(receipt.detail.empty());
  CHECK_FALSE(peer.ended);
}

void accepted(Peer& peer) {
  const auto receipt = peer.await<message::Receipt>();
  INFO(name(receipt.reason) << ": " << receipt.detail);
  CHECK(receipt.outcome == message::ReceiptOutcome::accepted);
}

}  // namespace

TEST_CASE("an offer that claims what is not so is refused before a byte of it is fetched", "[hostile]") {
  Invited round(3, 3, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(0);
  const Bytes content = encoded(Codec::fp32, fair);
  const UpdateHeader good = round.header(0, content);

  using Forge = std::function<Envelope(UpdateHeader header)>;
  using Change = std::function<void(UpdateHeader & header)>;
  const auto changed = [&](Change change) -> Forge {
    return [&liar, change](UpdateHeader header) {
      change(header);
      return liar.sealed(header);
    };
  };
  struct Case {
    const char* what;
    Reason reason;
    Forge forge;
  };
  const std::vector<Case> cases{
      {"no signature", Reason::bad_signature,
       [](const UpdateHeader& header) { return Envelope{encode(header), {}}; }},
      {"a bit of the signature flipped", Reason::bad_signature,
       [&](const UpdateHeader& header) {
         Envelope envelope = liar.sealed(header);
         envelope.signature.bytes[10] ^= std::byte{1};
         return envelope;
       }},
      {"a bit of the header flipped", Reason::bad_signature,
       [&](const UpdateHeader& header) {
         Envelope envelope = liar.sealed(header);
         envelope.payload.back() ^= std::byte{1};
         return envelope;
       }},
      {"another's signature", Reason::bad_signature,
       [&](const UpdateHeader& header) { return round.peer(1).sealed(header); }},
      {"signed as a report", Reason::bad_signature,
       [&](const UpdateHeader& header) { return seal(liar.key, Context::evaluation, encode(header)); }},
      {"another's name under its own signature", Reason::bad_signature,
       changed([&](UpdateHeader& header) { header.node = round.peer(1).key.public_key(); })},
      {"no header", Reason::malformed_frame,
       [&](const UpdateHeader&) {
         return seal(liar.key, Context::update, copy_of(bytes_of("a delta, honestly")));
       }},
      {"another fleet", Reason::wrong_fleet,
       changed([](UpdateHeader& header) { header.fleet.bytes[0] ^= std::byte{1}; })},
      {"a task that nobody gave", Reason::unknown_task,
       changed([](UpdateHeader& header) { header.task.bytes[3] ^= std::byte{1}; })},
      {"another's task", Reason::not_your_task,
       changed([&](UpdateHeader& header) { header.task = round.tasks[1].id; })},
      {"an older version", Reason::stale_base,
       changed([](UpdateHeader& header) { header.base_version = 0; })},
      {"other weights of that version", Reason::stale_base,
       changed([](UpdateHeader& header) { header.base_hash.bytes[5] ^= std::byte{1}; })},
      {"another codec", Reason::wrong_layout, changed([](UpdateHeader& header) { header.codec = 1; })},
      {"an unknown codec", Reason::wrong_layout, changed([](UpdateHeader& header) { header.codec = 777; })},
      {"another layout", Reason::wrong_layout,
       changed([](UpdateHeader& header) { header.parameter_count = 10; })},
      {"more parameters than memory", Reason::wrong_layout,
       changed([](UpdateHeader& header) { header.parameter_count = std::uint64_t{1} << 62; })},
      {"no content", Reason::too_large, changed([](UpdateHeader& header) { header.content_bytes = 0; })},
      {"a huge content", Reason::too_large, changed([](UpdateHeader& header) {
         header.content_bytes = std::numeric_limits<std::uint64_t>::max();
       })},
      {"no samples", Reason::bad_sample_count,
       changed([](UpdateHeader& header) { header.sample_count = 0; })},
      {"more samples than are believed", Reason::bad_sample_count,
       changed([](UpdateHeader& header) { header.sample_count = 100'001; })},
      {"all the samples there are", Reason::bad_sample_count, changed([](UpdateHeader& header) {
         header.sample_count = std::numeric_limits<std::uint64_t>::max();
       })},
      {"a loss that is no number", Reason::not_finite,
       changed([](UpdateHeader& header) { header.loss_last = std::nan(""); })},
      {"an infinite loss", Reason::not_finite,
       changed([](UpdateHeader& header) { header.loss_first = INFINITY; })},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected = expect_receipt(world, "refused", one.reason);
    liar.heard.clear();
    liar.send(message::Offer{one.forge(good)});
    refused(liar, one.reason);
    CHECK(liar.last<message::Fetch>() == nullptr);
    expected.check();
  }

  // Nothing of it is held against the task itself, and nothing of it counts.
  liar.offer(good, content);
  accepted(liar);
  for (const std::size_t i : {1U, 2U}) {
    round.peer(i).offer(round.tasks[i], std::vector<float>(entries, -1.0F), 10);
    accepted(round.peer(i));
  }
  const std::vector<float> before = world.weights(1);
  const json ended = world.ended_round();
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 3);
  CHECK(ended.at("refused") == cases.size());
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] - 0.5));  // (0.5 - 1 - 1) / 3

  // The round is over: what comes now is late, whoever sends it.
  Expected expected = expect_receipt(world, "duplicate", Reason::duplicate_content);
  UpdateHeader late = good;
  late.content.bytes[0] ^= std::byte{1};
  CHECK(liar.ask<message::Receipt>(message::Offer{liar.sealed(late)}).reason == Reason::duplicate_content);
  expected.check();
}

TEST_CASE("a task takes one update: the same again gets its receipt, another one does not count",
          "[hostile]") {
  Invited round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& node = round.peer(0);
  const UpdateHeader first = node.offer(round.tasks[0], fair, 10);
  accepted(node);
  const Bytes content = encoded(Codec::fp32, std::vector<float>(entries, 7.0F));
  const UpdateHeader second = round.header(0, content);

  const auto twice = [&] {
    Expected expected = expect_receipt(world, "duplicate", Reason::duplicate_content);
    node.offer(second, content);
    const auto receipt = node.await<message::Receipt>();
    CHECK(receipt.outcome == message::ReceiptOutcome::duplicate);
    CHECK(receipt.reason == Reason::duplicate_content);
    CHECK(node.last<message::Fetch>() == nullptr);
    expected.check();
    const auto again = node.ask<message::Receipt>(message::Offer{node.sealed(first)});
    CHECK(again.outcome == message::ReceiptOutcome::accepted);
    CHECK(again.task == first.task);
    CHECK(node.last<message::Fetch>() == nullptr);
  };
  twice();
  round.peer(1).offer(round.tasks[1], fair, 10);
  accepted(round.peer(1));
  const json ended = world.ended_round();
  CHECK(ended.at("accepted") == 2);
  twice();  // When the round is over, too.
  const std::vector<float> before = world.weights(1), after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
  CHECK(world.head() == 2);
}

TEST_CASE("content that is no delta is refused when it is there, in each codec", "[hostile]") {
  struct Case {
    const char* what;
    Reason reason;
    Bytes content;
  };
  std::vector<Case> cases;
  Codec codec = Codec::fp32;
  SECTION("fp32") {
    // entries u64, length of the segment u32, then floats: the third lies at 20.
    const Bytes good = encoded(Codec::fp32, fair);
    REQUIRE(good.size() == 48);
    Bytes shorter = good;
    shorter.pop_back();
    cases = {
        {"NaN", Reason::not_finite, with(good, 20, not_a_number)},
        {"infinity", Reason::not_finite, with(good, 20, infinity)},
        {"minus infinity, the last of all", Reason::not_finite, with(good, 44, -infinity)},
        {"another count of entries", Reason::wrong_layout, with(good, 0, std::uint64_t{10})},
        {"all entries there are", Reason::wrong_layout,
         with(good, 0, std::numeric_limits<std::uint64_t>::max())},
        {"a segment that is too long", Reason::corrupt_content, with(good, 8, std::uint32_t{40})},
        {"a byte less", Reason::corrupt_content, shorter},
        {"a norm of 4.01 times the bound", Reason::norm_too_large,
         encoded(Codec::fp32, std::vector<float>(entries, 401.0F / 3))},
        {"a norm beyond float", Reason::norm_too_large,
         encoded(Codec::fp32, std::vector<float>(entries, 3e38F))},
    };
  }
  SECTION("int8") {
    // … then one block: a scale at 12 and nine entries from 16 on.
    codec = Codec::int8;
    const Bytes good = encoded(Codec::int8, fair);
    REQUIRE(good.size() == 25);
    const auto scale = [&](float value) { return with(good, 12, value); };
    cases = {
        {"a scale of 0 with entries", Reason::bad_scale, scale(0)},
        {"a scale of NaN", Reason::bad_scale, scale(not_a_number)},
        {"an infinite scale", Reason::bad_scale, scale(infinity)},
        {"a negative scale", Reason::bad_scale, scale(-0.1F)},
        {"a scale of -0", Reason::bad_scale, scale(-0.0F)},
        {"a scale below the normal numbers", Reason::bad_scale, scale(1e-40F)},
        {"a scale whose multiples overflow", Reason::bad_scale, scale(3e37F)},
        {"an entry of -128", Reason::corrupt_content, with(good, 18, std::int8_t{-128})},
        {"a huge norm", Reason::norm_too_large, scale(1e6F)},
        {"another count of entries", Reason::wrong_layout, with(good, 0, std::uint64_t{8})},
    };
  }
  // The last node is honest.
  Invited round(static_cast<std::uint32_t>(cases.size()) + 1, 0, codec);
  HostileWorld& world = round.world;
  const double stored = world.metric("rivulet_blob_bytes");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(cases[i].what);
    Expected expected = expect_receipt(world, "refused", cases[i].reason);
    const UpdateHeader header = round.header(i, cases[i].content);
    round.peer(i).offer(header, cases[i].content);
    refused(round.peer(i), cases[i].reason);
    expected.check();
    // It is not kept, and not judged a second time.
    CHECK(world.metric("rivulet_blob_bytes") == stored);
    CHECK(round.peer(i).ask<message::Receipt>(message::Offer{round.peer(i).sealed(header)}).reason ==
          cases[i].reason);
    CHECK(round.peer(i).last<message::Fetch>() == nullptr);
  }
  const std::vector<float> before = world.weights(1);
  const std::size_t honest = cases.size();
  round.peer(honest).offer(round.tasks[honest], fair, 10);
  accepted(round.peer(honest));
  const json ended = world.ended_round();
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 1);
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i)
    CHECK(std::abs(after[i] - before[i] - 0.5F) < 0.005F);  // A step of int8 has 0.5 / 127.
}

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
       [&](UpdateHeader&, Peer::Upload& upload) { upload.data = with(good, 20, 9.0F); }},
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
  Invited round(static_cast<std::uint32_t>(cases.size()) + 1, 1, Codec::fp32);
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
  Invited round(2, 2, Codec::fp32);
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

TEST_CASE("a round does not wait for a content that its node offers and does not have", "[hostile]") {
  Invited round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(0);
  const UpdateHeader header = round.header(0, encoded(Codec::fp32, fair));
  liar.send(message::Offer{liar.sealed(header)});  // Its answer to the fetch is NoContent.
  CHECK(liar.await<message::TaskCancelled>().id == round.tasks[0].id);
  CHECK_FALSE(liar.ended);
  round.peer(1).offer(round.tasks[1], fair, 10);
  accepted(round.peer(1));
  const json ended = world.ended_round();  // Its deadline is minutes away.
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 1);
}

TEST_CASE("a coordinator that has no file left sends a node away, and takes its update later", "[hostile]") {
  Invited round(2, 2, Codec::fp32);
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

TEST_CASE("a node that is revoked in mid-round takes its accepted update with it", "[hostile]") {
  Invited round(3, 3, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& bad = round.peer(2);
  bad.offer(round.tasks[2], std::vector<float>(entries, 30.0F), 10);
  accepted(bad);
  const std::string key = bad.key.public_key().hex();
  const std::size_t mark = LogLines::mark();
  world.server->post_json("/v1/nodes/" + key + "/revoke", json::object());
  CHECK(bad.await<message::Refused>().reason == Reason::revoked);
  bad.await_end();
  world.await_metric("rivulet_refusals_total", {"reason=\"revoked\""}, 1);
  CHECK(LogLines::since(mark, {"node_revoked ", key}).size() == 1);

  Expected expected = expect_cut_off(world, Reason::revoked);
  bad.dial(world.server->listen);
  bad.hello(world.id);
  CHECK(bad.await<message::Refused>().reason == Reason::revoked);
  expected.check();

  const std::vector<float> before = world.weights(1);
  for (const std::size_t i : {0U, 1U}) {
    round.peer(i).offer(round.tasks[i], fair, 10);
    accepted(round.peer(i));
  }
  CHECK(world.ended_round().at("state") == "published");
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
}

TEST_CASE("what a node sends in part does not stay, whatever it offers next", "[hostile]") {
  Invited round(3, 2, Codec::fp32);
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
