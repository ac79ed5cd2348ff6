// Contents that arrive as they were announced and are no delta.
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/hostile/invited_round.h"

using namespace rivulet;
using nlohmann::json;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

template <typename T>
Bytes with(Bytes bytes, std::size_t at, T value) {
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

}  // namespace

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
  InvitedRound round(static_cast<std::uint32_t>(cases.size()) + 1, 0, codec);
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
