#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/now.h"

/// How a sample lies in the node's store:
///   samples     number (u64 BE)  -> format: u8 = 2, labelled: u8, time: i64 ms, id: byte[32], draw: u64,
///                                   label length: u16, label, count: u32, float32[count]; all LE
///   sample_ids  id: byte[32]     -> number: u64, bytes: u32, labelled: u8, draw: u64; LE
/// The first format had no draw, since the id decided on the split; its entries are read, and rewritten when
/// the store is opened.
namespace rivulet::node {

struct NewSample {
  std::string id;                    ///< Empty: its inputs name it, so that the same ones are there once.
  std::vector<float> inputs;         ///< As they were measured; the release's preprocessing comes later.
  std::optional<std::string> label;  ///< As written; nothing: stored, and not trained on.
};

/// A sample during a visit.
struct SampleView {
  Digest id;
  std::span<const float> inputs;
  std::optional<std::string_view> label;
  UtcTime time{};
  std::uint64_t draw = 0;  ///< holdout_draw(inputs)
};

struct SampleIndex {
  std::uint64_t number = 0;
  std::uint32_t bytes = 0;  ///< Of the sample's two entries.
  bool labelled = false;
  std::uint64_t draw = 0;
};

/// The id under which a sample is stored.
Digest sample_id(std::string_view id, std::span<const float> inputs);
/// The id that the first format gave a sample without one of its own: there, its label was part of the name.
Digest first_format_id(const SampleView& sample);

/// What the inputs, and nothing else, draw for the split: no input is in both sides, whatever labels and ids
/// it comes with.
std::uint64_t holdout_draw(std::span<const float> inputs);
bool in_holdout(std::uint64_t draw, double fraction);

Bytes encode(const SampleView& sample);
/// The bytes of both entries of a sample whose record has this size.
std::uint64_t entry_bytes(std::size_t record_bytes);
/// @param inputs where the numbers go, since the record's are not aligned. @return false for a record that
/// does not have the form; `view` refers to `record` and `inputs`.
bool decode(ByteSpan record, std::vector<float>& inputs, SampleView& view);

Bytes encode(const SampleIndex& index);
std::optional<SampleIndex> decode_index(ByteSpan value);
bool is_first_format(ByteSpan index);

}  // namespace rivulet::node
