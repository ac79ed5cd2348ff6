#include "node/daemon/sample_record.h"

#include "protocol/sha256.h"

namespace rivulet::node {
namespace {

constexpr std::uint8_t first_format = 1;
constexpr std::uint8_t record_format = 2;
constexpr std::size_t first_index_bytes = 8 + 4 + 1;
constexpr std::size_t index_bytes = first_index_bytes + 8;
constexpr std::size_t id_at = 1 + 1 + 8;

}  // namespace

Digest sample_id(std::string_view id, std::span<const float> inputs) {
  Sha256 hash;
  if (!id.empty()) return hash.update(bytes_of("rivulet.sample.id")).update(bytes_of(id)).finish();
  return hash.update(bytes_of("rivulet.sample.inputs")).update(std::as_bytes(inputs)).finish();
}

Digest first_format_id(const SampleView& sample) {
  Bytes lengths;
  append_le(lengths, static_cast<std::uint64_t>(sample.inputs.size()));
  append_le(lengths, static_cast<std::uint64_t>(sample.label ? sample.label->size() + 1 : 0));
  Sha256 hash;
  hash.update(bytes_of("rivulet.sample.content")).update(lengths).update(std::as_bytes(sample.inputs));
  if (sample.label) hash.update(bytes_of(*sample.label));
  return hash.finish();
}

std::uint64_t holdout_draw(std::span<const float> inputs) {
  Sha256 hash;
  return load_le<std::uint64_t>(
      hash.update(bytes_of("rivulet.holdout")).update(std::as_bytes(inputs)).finish().span());
}

bool in_holdout(std::uint64_t draw, double fraction) {
  return static_cast<double>(draw >> 11) * 0x1.0p-53 < fraction;
}

Bytes encode(const SampleView& sample) {
  const ByteSpan label = sample.label ? bytes_of(*sample.label) : ByteSpan();
  Bytes out;
  out.reserve(64 + label.size() + 4 * sample.inputs.size());
  append_le(out, record_format);
  append_le(out, static_cast<std::uint8_t>(sample.label.has_value()));
  append_le(out, static_cast<std::int64_t>(sample.time.time_since_epoch().count()));
  out.insert(out.end(), sample.id.bytes.begin(), sample.id.bytes.end());
  append_le(out, sample.draw);
  append_le(out, static_cast<std::uint16_t>(label.size()));
  out.insert(out.end(), label.begin(), label.end());
  append_le(out, static_cast<std::uint32_t>(sample.inputs.size()));
  const ByteSpan inputs = std::as_bytes(sample.inputs);
  out.insert(out.end(), inputs.begin(), inputs.end());
  return out;
}

std::uint64_t entry_bytes(std::size_t record_bytes) { return record_bytes + 8 + Digest::size + index_bytes; }

bool decode(ByteSpan record, std::vector<float>& inputs, SampleView& view) {
  if (record.empty()) return false;
  const auto format = load_le<std::uint8_t>(record);
  const bool has_draw = format == record_format;
  if (!has_draw && format != first_format) return false;
  const std::size_t label_at = id_at + Digest::size + (has_draw ? 8 : 0);
  if (record.size() < label_at + 2 + 4) return false;
  view.time = UtcTime(std::chrono::milliseconds(load_le<std::int64_t>(record, 2)));
  view.id = *Digest::from_bytes(record.subspan(id_at, Digest::size));
  const std::size_t label_size = load_le<std::uint16_t>(record, label_at);
  const std::size_t count_at = label_at + 2 + label_size;
  if (record.size() < count_at + 4) return false;
  view.label.reset();
  if (record[1] != std::byte{0}) view.label = text_of(record.subspan(label_at + 2, label_size));
  const std::size_t count = load_le<std::uint32_t>(record, count_at);
  const ByteSpan numbers = record.subspan(count_at + 4);
  if (count == 0 || numbers.size() != 4 * count) return false;
  inputs.resize(count);
  std::memcpy(inputs.data(), numbers.data(), numbers.size());
  view.inputs = inputs;
  view.draw = has_draw ? load_le<std::uint64_t>(record, id_at + Digest::size) : holdout_draw(inputs);
  return true;
}

Bytes encode(const SampleIndex& index) {
  Bytes out;
  append_le(out, index.number);
  append_le(out, index.bytes);
  append_le(out, static_cast<std::uint8_t>(index.labelled));
  append_le(out, index.draw);
  return out;
}

bool is_first_format(ByteSpan index) { return index.size() == first_index_bytes; }

std::optional<SampleIndex> decode_index(ByteSpan value) {
  if (value.size() != index_bytes) return std::nullopt;
  return SampleIndex{load_le<std::uint64_t>(value), load_le<std::uint32_t>(value, 8),
                     value[12] != std::byte{0}, load_le<std::uint64_t>(value, 13)};
}

}  // namespace rivulet::node
