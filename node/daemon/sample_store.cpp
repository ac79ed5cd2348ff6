#include "node/daemon/sample_store.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <set>
#include <utility>

#include "protocol/sha256.h"

namespace rivulet::node {
namespace {

constexpr std::string_view samples_family = sample_families[0];
constexpr std::string_view ids_family = sample_families[1];
constexpr std::uint8_t record_format = 1;
constexpr std::size_t batch_bytes_max = 1 << 20;

struct Index {
  std::uint64_t number = 0;
  std::uint32_t bytes = 0;  ///< Of the sample's two entries.
  bool labelled = false;
};
constexpr std::size_t index_bytes = 8 + 4 + 1;

Bytes encode(const Index& index) {
  Bytes out;
  append_le(out, index.number);
  append_le(out, index.bytes);
  append_le(out, static_cast<std::uint8_t>(index.labelled));
  return out;
}

std::optional<Index> decode_index(ByteSpan value) {
  if (value.size() != index_bytes) return std::nullopt;
  return Index{load_le<std::uint64_t>(value), load_le<std::uint32_t>(value, 8), value[12] != std::byte{0}};
}

Bytes encode(const NewSample& sample, const Digest& id, UtcTime time) {
  Bytes out;
  out.reserve(64 + (sample.label ? sample.label->size() : 0) + 4 * sample.inputs.size());
  append_le(out, record_format);
  append_le(out, static_cast<std::uint8_t>(sample.label.has_value()));
  append_le(out, static_cast<std::int64_t>(time.time_since_epoch().count()));
  out.insert(out.end(), id.bytes.begin(), id.bytes.end());
  const ByteSpan label = sample.label ? bytes_of(*sample.label) : ByteSpan();
  append_le(out, static_cast<std::uint16_t>(label.size()));
  out.insert(out.end(), label.begin(), label.end());
  append_le(out, static_cast<std::uint32_t>(sample.inputs.size()));
  const ByteSpan inputs = std::as_bytes(std::span(sample.inputs));
  out.insert(out.end(), inputs.begin(), inputs.end());
  return out;
}

/// @param inputs where the numbers go, since the record's are not aligned. @return false for a record that
/// does not have the form; `view` refers to `record` and `inputs`.
bool decode(ByteSpan record, std::vector<float>& inputs, SampleView& view) {
  constexpr std::size_t fixed = 1 + 1 + 8 + 32 + 2;
  if (record.size() < fixed + 4 || load_le<std::uint8_t>(record) != record_format) return false;
  view.time = UtcTime(std::chrono::milliseconds(load_le<std::int64_t>(record, 2)));
  view.id = *Digest::from_bytes(record.subspan(10, 32));
  const std::size_t label_size = load_le<std::uint16_t>(record, 42);
  if (record.size() < fixed + label_size + 4) return false;
  view.label.reset();
  if (record[1] != std::byte{0}) view.label = text_of(record.subspan(fixed, label_size));
  const std::size_t count = load_le<std::uint32_t>(record, fixed + label_size);
  const ByteSpan numbers = record.subspan(fixed + label_size + 4);
  if (count == 0 || numbers.size() != 4 * count) return false;
  inputs.resize(count);
  std::memcpy(inputs.data(), numbers.data(), numbers.size());
  view.inputs = inputs;
  return true;
}

std::unexpected<Error> fail_corrupt(ByteSpan key) {
  return fail(Errc::corrupt,
              fmt::format("the stored sample {} does not have the form of one: remove the folder's "
                          "store, or restore it",
                          to_hex(key)));
}

Status check(const NewSample& sample, std::uint64_t bytes_max) {
  const auto refuse = [](std::string why) { return fail(Errc::invalid, std::move(why)); };
  if (sample.inputs.empty()) return refuse("it has no numbers");
  if (sample.inputs.size() > sample_numbers_max)
    return refuse(fmt::format("it has over {} numbers", sample_numbers_max));
  for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
    if (!std::isfinite(sample.inputs[i])) return refuse(fmt::format("number {} is not finite", i + 1));
  }
  if (sample.label && sample.label->empty()) return refuse("its label is empty: leave it out");
  if (sample.label && sample.label->size() > label_bytes_max) {
    return refuse(fmt::format("its label has over {} bytes", label_bytes_max));
  }
  if (sample.id.size() > id_bytes_max) return refuse(fmt::format("its id has over {} bytes", id_bytes_max));
  if (4 * sample.inputs.size() + 1024 > bytes_max / 2)
    return refuse("it is larger than half the buffer (buffer.bytes_max)");
  return {};
}

}  // namespace

/// Writes that wait for one commit, and what they will change.
struct SampleStore::Batch {
  WriteBatch writes;
  std::set<Digest> ids;
  SampleCounts counts;
  std::uint64_t next = 0;
  std::uint64_t oldest = 0;
  std::uint64_t bytes = 0;  ///< Of the new samples.
  std::uint64_t stored = 0;
  std::uint64_t dropped = 0;

  void put(std::string_view family, Bytes key, Bytes value) {
    writes.push_back(Put{std::string(family), std::move(key), std::move(value)});
  }
  void erase(std::string_view family, Bytes key) {
    writes.push_back(Erase{std::string(family), std::move(key)});
  }
};

Digest sample_id(const NewSample& sample) {
  Sha256 hash;
  if (!sample.id.empty())
    return hash.update(bytes_of("rivulet.sample.id")).update(bytes_of(sample.id)).finish();
  Bytes lengths;
  append_le(lengths, static_cast<std::uint64_t>(sample.inputs.size()));
  append_le(lengths, static_cast<std::uint64_t>(sample.label ? sample.label->size() + 1 : 0));
  hash.update(bytes_of("rivulet.sample.content"))
      .update(lengths)
      .update(std::as_bytes(std::span(sample.inputs)));
  if (sample.label) hash.update(bytes_of(*sample.label));
  return hash.finish();
}

bool in_holdout(const Digest& id, double fraction) {
  Sha256 hash;
  const Digest digest = hash.update(bytes_of("rivulet.holdout")).update(id.span()).finish();
  const double draw = static_cast<double>(load_le<std::uint64_t>(digest.span()) >> 11) * 0x1.0p-53;
  return draw < fraction;
}

Result<std::unique_ptr<SampleStore>> SampleStore::open(Store& store, const SampleLimits& limits) {
  std::unique_ptr<SampleStore> samples(new SampleStore(store, limits));
  if (const auto status = samples->load(); !status) return std::unexpected(status.error());
  return samples;
}

Status SampleStore::load() {
  bool sound = true;
  // Only the small entries are read: the buffer itself may be hundreds of megabytes.
  const auto status = store_.scan(ids_family, {}, [&](ByteSpan key, ByteSpan value) {
    const auto id = Digest::from_bytes(key);
    const auto index = decode_index(value);
    sound = id && index;
    if (sound) count(counts_, *id, index->labelled, index->bytes, +1);
    return sound;
  });
  if (!status) return status;
  if (!sound)
    return fail(Errc::corrupt,
                "an entry of the store's family sample_ids has a wrong length: restore the store");
  const auto last = store_.last(samples_family);
  if (!last) return std::unexpected(last.error());
  if (*last) next_ = number_of_key((*last)->key).value_or(0) + 1;
  return store_.scan(samples_family, {}, [&](ByteSpan key, ByteSpan) {
    oldest_ = number_of_key(key).value_or(0);
    return false;
  });
}

void SampleStore::count(SampleCounts& counts, const Digest& id, bool labelled, std::uint64_t bytes,
                        int sign) const {
  const auto by = static_cast<std::uint64_t>(sign);  // Wraps for -1, as the sum does.
  std::uint64_t& kind = !labelled                                  ? counts.unlabelled
                        : in_holdout(id, limits_.holdout_fraction) ? counts.holdout
                                                                   : counts.training;
  kind += by;
  counts.bytes += by * bytes;
}

Result<AddOutcome> SampleStore::add(std::span<const NewSample> samples, UtcTime now) {
  const std::lock_guard lock(mutex_);
  AddOutcome outcome;
  std::size_t index = 0;
  while (index < samples.size()) {
    Batch batch;
    batch.counts = counts_;
    batch.next = next_;
    batch.oldest = oldest_;
    const std::uint64_t bytes_max = std::min<std::uint64_t>(batch_bytes_max, limits_.bytes_max / 2);
    for (; index < samples.size() && batch.bytes < bytes_max; ++index) {
      if (const auto status = add_one(samples[index], index, now, batch, outcome); !status) {
        return std::unexpected(status.error());
      }
    }
    if (const auto status = commit(batch, outcome); !status) return std::unexpected(status.error());
  }
  return outcome;
}

Status SampleStore::add_one(const NewSample& sample, std::size_t index, UtcTime now, Batch& batch,
                            AddOutcome& outcome) {
  if (const auto sound = check(sample, limits_.bytes_max); !sound) {
    outcome.refused.push_back({index, sound.error().detail});
    return {};
  }
  const Digest id = sample_id(sample);
  if (batch.ids.contains(id)) {
    ++outcome.duplicate;
    return {};
  }
  const auto known = store_.get(ids_family, id.span());
  if (!known) return std::unexpected(known.error());
  if (*known) {
    const auto before = decode_index(**known);
    if (!before) return fail_corrupt(id.span());
    if (before->labelled || !sample.label) {
      ++outcome.duplicate;
      return {};
    }
    // Its label comes now: the sample without one gives way.
    batch.erase(samples_family, number_key(before->number));
    count(batch.counts, id, false, before->bytes, -1);
  }
  Bytes record = encode(sample, id, now);
  const auto bytes = static_cast<std::uint32_t>(record.size() + 8 + Digest::size + index_bytes);
  batch.put(samples_family, number_key(batch.next), std::move(record));
  batch.put(ids_family, copy_of(id.span()), encode(Index{batch.next, bytes, sample.label.has_value()}));
  count(batch.counts, id, sample.label.has_value(), bytes, +1);
  batch.ids.insert(id);
  batch.bytes += bytes;
  ++batch.next;
  ++batch.stored;
  return {};
}

Status SampleStore::commit(Batch& batch, AddOutcome& outcome) {
  if (batch.writes.empty()) return {};
  const auto too_full = [&](std::uint64_t, UtcTime) { return batch.counts.bytes > limits_.bytes_max; };
  if (const auto status = drop_oldest(batch, too_full); !status) return status;
  if (const auto status = store_.commit(batch.writes, Durability::buffered); !status) return status;
  counts_ = batch.counts;
  next_ = batch.next;
  oldest_ = batch.oldest;
  unsynced_ = true;
  outcome.stored += batch.stored;
  outcome.dropped += batch.dropped;
  return {};
}

/// Adds the removal of the oldest samples to `batch`, as long as one is `wanted` out.
Status SampleStore::drop_oldest(Batch& batch, const std::function<bool(std::uint64_t, UtcTime)>& wanted) {
  if (!wanted(0, UtcTime::min())) return {};
  bool sound = true;
  std::vector<float> inputs;
  SampleView view;
  const auto visit = [&](ByteSpan key, ByteSpan value) {
    sound = decode(value, inputs, view);
    if (!sound) return false;
    if (batch.ids.contains(view.id)) return true;  // It gives way to its labelled form anyway.
    if (!wanted(batch.dropped, view.time)) return false;
    const std::uint64_t bytes = value.size() + 8 + Digest::size + index_bytes;
    batch.erase(samples_family, copy_of(key));
    batch.erase(ids_family, copy_of(view.id.span()));
    count(batch.counts, view.id, view.label.has_value(), bytes, -1);
    batch.oldest = number_of_key(key).value_or(0) + 1;
    ++batch.dropped;
    return true;
  };
  // From the oldest that is left: what was erased before it need not be walked over again.
  const auto status = store_.scan(samples_family, {}, visit, number_key(batch.oldest));
  if (!status) return status;
  if (!sound) return fail_corrupt({});
  return {};
}

Result<std::uint64_t> SampleStore::expire(UtcTime now) {
  if (limits_.age_max.count() == 0) return std::uint64_t{0};
  const std::lock_guard lock(mutex_);
  Batch batch;
  batch.counts = counts_;
  batch.next = next_;
  batch.oldest = oldest_;
  const UtcTime limit = now - limits_.age_max;
  const auto status = drop_oldest(batch, [&](std::uint64_t, UtcTime time) { return time < limit; });
  if (!status) return std::unexpected(status.error());
  AddOutcome outcome;
  if (const auto committed = commit(batch, outcome); !committed) return std::unexpected(committed.error());
  return outcome.dropped;
}

Status SampleStore::sync() {
  const std::lock_guard one_at_a_time(sync_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(unsynced_, false)) return {};
  }
  auto status = store_.sync();
  if (!status) {
    const std::lock_guard lock(mutex_);
    unsynced_ = true;
  }
  return status;
}

SampleCounts SampleStore::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Status SampleStore::visit(Split split, const std::function<bool(const SampleView&)>& visit,
                          bool unlabelled) const {
  bool sound = true;
  Bytes damaged;
  std::vector<float> inputs;
  SampleView view;
  const auto status = store_.scan(samples_family, {}, [&](ByteSpan key, ByteSpan value) {
    sound = decode(value, inputs, view);
    if (!sound) {
      damaged = copy_of(key);
      return false;
    }
    if (!view.label && !unlabelled) return true;
    if (in_holdout(view.id, limits_.holdout_fraction) != (split == Split::holdout)) return true;
    return visit(view);
  });
  if (!status) return status;
  if (!sound) return fail_corrupt(damaged);
  return {};
}

}  // namespace rivulet::node
