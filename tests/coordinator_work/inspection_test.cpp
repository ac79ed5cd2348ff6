#include <cmath>
#include <limits>

#include "coordinator/work/update_inspection.h"
#include "tests/catch.h"
#include "tests/forwarding_blobs.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::coordinator;
using rivulet::testing::Blobs;

namespace {

constexpr std::uint16_t fp32 = 0, int8 = 1;

/// 4 entries, the third of which no norm counts.
const ParameterLayout layout{{{"weight", {2}, TensorKind::parameter},
                              {"mean", {1}, TensorKind::statistic},
                              {"bias", {1}, TensorKind::parameter}}};

// As codec.h has them: the number of entries, the length of the one segment, the segment.
const std::string four_entries = "0400000000000000";
const std::string fp32_head = four_entries + "10000000";
const std::string int8_head = four_entries + "08000000";
// As mixed.h has it: behind the codec's part follows the statistic as float32, here 100.
const std::string statistic = "0000c842";

/// @param coded the codec's part.
effect::FetchUpdate update_of(Blobs& blobs, std::uint16_t codec, const std::string& coded) {
  const std::string hex = coded + statistic;
  effect::FetchUpdate update;
  update.content = blobs.put_hex(hex);
  update.bytes = hex.size() / 2;
  update.codec = codec;
  update.parameter_count = 4;
  return update;
}

Inspection inspect_hex(std::uint16_t codec, const std::string& hex) {
  Blobs blobs;
  return inspect_update(update_of(blobs, codec, hex), layout, *blobs.store).value();
}

/// A disk that cannot read what it holds.
class BrokenDisk final : public rivulet::testing::ForwardingBlobs {
 public:
  using ForwardingBlobs::ForwardingBlobs;
  Result<Bytes> read(const ContentId&, std::uint64_t, std::size_t) const override {
    return fail(Errc::storage, "input/output error");
  }
};

}  // namespace

TEST_CASE("an update's norm is that of its parameters, without statistics",
          "[coordinator][work][inspection]") {
  // 3, 0, 100 (a statistic), 4.
  const auto plain = inspect_hex(fp32, fp32_head +
                                           "00004040"
                                           "00000000"
                                           "0000c842"
                                           "00008040");
  REQUIRE(plain);
  CHECK(plain->norm == 5.0);
  // Scale 0.5 and the steps 6, -8, 127, 0: 3, -4, 63.5 (a statistic), 0.
  const auto coded = inspect_hex(int8, int8_head +
                                           "0000003f"
                                           "06f87f00");
  REQUIRE(coded);
  CHECK(coded->norm == 5.0);
  // A scale of 0 is that of a block of zeros.
  const auto nothing = inspect_hex(int8, int8_head +
                                             "00000000"
                                             "00000000");
  REQUIRE(nothing);
  CHECK(nothing->norm == 0.0);
}

TEST_CASE("an update that is no delta of this layout is refused, each for its reason",
          "[coordinator][work][inspection]") {
  struct Case {
    const char* what;
    std::uint16_t codec;
    std::string hex;
    Reason reason;
    const char* words;
  };
  const std::string ones =
      "0000803f"
      "0000803f"
      "0000803f";
  const auto [what, codec, hex, reason, words] = GENERATE_COPY(values<Case>({
      {"a codec nobody knows", 2, fp32_head + ones + "0000803f", Reason::corrupt_content, "codec number 2"},
      {"another model's delta", fp32,
       "0500000000000000"
       "10000000" +
           ones + "0000803f",
       Reason::wrong_layout, "5 entries, the model 4"},
      {"no entry at all", fp32, "", Reason::corrupt_content, "too short"},
      {"a head cut short", fp32, "040000000000000010", Reason::corrupt_content, "too short"},
      {"a segment cut short", fp32, fp32_head + ones, Reason::corrupt_content, "end at 28"},
      {"a byte too many", fp32,
       fp32_head + ones +
           "0000803f"
           "00",
       Reason::corrupt_content, "end at 28"},
      {"a segment of another length", fp32, four_entries + "0c000000" + ones, Reason::corrupt_content,
       "12 bytes where fp32 takes 16"},
      {"int8 named fp32", fp32,
       int8_head + "0000003f"
                   "06f87f00",
       Reason::corrupt_content, "8 bytes where fp32"},
      {"not a number", fp32, fp32_head + ones + "0000c07f", Reason::not_finite, "entry 3"},
      {"infinity", fp32, fp32_head + "000080ff" + ones, Reason::not_finite, "entry 0"},
      {"a statistic that is infinite", fp32,
       fp32_head + "0000803f"
                   "0000803f"
                   "0000807f"
                   "0000803f",
       Reason::not_finite, "entry 2"},
      {"a scale that is no number", int8,
       int8_head + "0000c07f"
                   "01010101",
       Reason::bad_scale, "block 0"},
      {"an infinite scale", int8,
       int8_head + "0000807f"
                   "01010101",
       Reason::bad_scale, "block 0"},
      {"a negative scale", int8,
       int8_head + "000000bf"
                   "01010101",
       Reason::bad_scale, "block 0"},
      {"minus zero", int8,
       int8_head + "00000080"
                   "00000000",
       Reason::bad_scale, "block 0"},
      {"a subnormal scale", int8,
       int8_head + "01000000"
                   "01010101",
       Reason::bad_scale, "block 0"},
      // 2^122 = 0x7c800000: 127 times that is more than the largest float32.
      {"a scale whose entries overflow", int8,
       int8_head + "0000807c"
                   "01010101",
       Reason::bad_scale, "block 0"},
      {"a step beside the scale 0", int8,
       int8_head + "00000000"
                   "00000100",
       Reason::bad_scale, "entry 2"},
      {"the step -128", int8,
       int8_head + "0000003f"
                   "06f88000",
       Reason::corrupt_content, "-128"},
  }));
  CAPTURE(what);
  const auto facts = inspect_hex(codec, hex);
  REQUIRE_FALSE(facts);
  CAPTURE(facts.error().detail);
  CHECK(name(facts.error().reason) == name(reason));
  CHECK(facts.error().detail.find(words) != std::string::npos);
}

TEST_CASE("a statistic that no float32 part brings, or that is not finite, is refused",
          "[coordinator][work][inspection]") {
  const std::string zeros = fp32_head + std::string(32, '0');
  const auto inspect_whole = [](const std::string& hex) {
    Blobs blobs;
    effect::FetchUpdate update;
    update.content = blobs.put_hex(hex);
    update.bytes = hex.size() / 2;
    update.codec = fp32;
    return inspect_update(update, layout, *blobs.store).value();
  };
  CHECK(inspect_whole(zeros + statistic));
  CHECK(inspect_whole(zeros).error().reason == Reason::corrupt_content);
  CHECK(inspect_whole(zeros + statistic + statistic).error().reason == Reason::corrupt_content);
  CHECK(inspect_whole(zeros + "0000807f").error().reason == Reason::not_finite);
}

TEST_CASE("what a late segment hides is found too", "[coordinator][work][inspection]") {
  // One entry more than a segment holds; that one is in a segment of its own.
  const std::int64_t entries = 65'537;
  const ParameterLayout large{{{"weight", {entries}, TensorKind::parameter}}};
  Bytes wire;
  append_le(wire, static_cast<std::uint64_t>(entries));
  append_le(wire, std::uint32_t{4 * 65'536});
  append_le(wire, std::uint32_t{4});
  wire.resize(wire.size() + 4 * 65'536);
  const float last = GENERATE(2.5F, std::numeric_limits<float>::quiet_NaN());
  append_le(wire, last);

  Blobs blobs;
  effect::FetchUpdate update;
  update.content = blobs.put(wire);
  update.bytes = wire.size();
  const Inspection facts = inspect_update(update, large, *blobs.store).value();
  if (std::isnan(last)) {
    REQUIRE_FALSE(facts);
    CHECK(facts.error().reason == Reason::not_finite);
    CHECK(facts.error().detail.find("segment 1") != std::string::npos);
  } else {
    REQUIRE(facts);
    CHECK(facts->norm == 2.5);
  }
}

TEST_CASE("content that is shorter than it was announced is corrupt", "[coordinator][work][inspection]") {
  Blobs blobs;
  effect::FetchUpdate update = update_of(blobs, fp32, fp32_head + std::string(32, '0'));
  update.content = blobs.put_hex(fp32_head + std::string(32, '0') + "0000");  // Half of the statistic.
  update.bytes = 32;  // What four entries and the statistic take.
  const Inspection shorter = inspect_update(update, layout, *blobs.store).value();
  REQUIRE_FALSE(shorter);
  CHECK(shorter.error().reason == Reason::corrupt_content);
  CHECK(shorter.error().detail.find("ends too early") != std::string::npos);
}

TEST_CASE("what is the fault of our own disk is not held against an update",
          "[coordinator][work][inspection]") {
  Blobs blobs;
  const effect::FetchUpdate update = update_of(blobs, fp32, fp32_head + std::string(32, '0'));
  REQUIRE(inspect_update(update, layout, *blobs.store).value());
  const auto unreadable = inspect_update(update, layout, BrokenDisk(*blobs.store));
  REQUIRE_FALSE(unreadable);
  CHECK(unreadable.error().code == Errc::storage);

  REQUIRE(blobs.store->erase(update.content));
  const auto gone = inspect_update(update, layout, *blobs.store);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == Errc::not_found);
}
