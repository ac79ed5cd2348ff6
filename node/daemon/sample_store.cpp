#include "node/daemon/sample_store.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <utility>

namespace rivulet::node {
namespace {

constexpr std::string_view samples_family = sample_families[0];
constexpr std::string_view ids_family = sample_families[1];
constexpr std::size_t batch_bytes_max = 1 << 20;

std::unexpected<Error> fail_corrupt(ByteSpan key) {
  return fail(Errc::corrupt,
              fmt::format("the stored sample {} does not have the form of one: remove the folder's "
                          "store, or restore it",
                          to_hex(key)));
}

/// Calls `take` with each sample, from a key on, until it gives false. @return corrupt, with the key of the
/// record that does not have the form of a sample, if it comes to one.
Status scan_samples(const Store& store, ByteSpan from,
                    const std::function<bool(ByteSpan key, ByteSpan value, SampleView& sample)>& take) {
  std::vector<float> inputs;
  SampleView view;
  std::optional<Bytes> damaged;
  const auto decode_and_take = [&](ByteSpan key, ByteSpan value) {
    if (decode(value, inputs, view)) return take(key, value, view);
    damaged = copy_of(key);
    return false;
  };
  const auto status = store.scan(samples_family, {}, decode_and_take, from);
  if (status && damaged) return fail_corrupt(*damaged);
  return status;
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

Result<std::unique_ptr<SampleStore>> SampleStore::open(Store& store, const SampleLimits& limits) {
  std::unique_ptr<SampleStore> samples(new SampleStore(store, limits));
  if (const auto status = samples->load(); !status) return std::unexpected(status.error());
  return samples;
}

Status SampleStore::load() {
  bool sound = true, old = false;
  // Only the small entries are read: the buffer itself may be hundreds of megabytes.
  const auto read_all = [&](ByteSpan, ByteSpan value) {
    old = is_first_format(value);
    if (old) return false;
    const auto index = decode_index(value);
    sound = index.has_value();
    if (sound) count(counts_, *index, index->labelled, +1);
    return sound;
  };
  auto status = store_.scan(ids_family, {}, read_all);
  if (status && old) {
    if (status = rewrite_first_format(); !status) return status;
    old = false;
    counts_ = {};
    status = store_.scan(ids_family, {}, read_all);
  }
  if (!status) return status;
  if (!sound || old)
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

Status SampleStore::rewrite_first_format() {
  Bytes from;
  for (bool done = false; !done;) {
    Batch batch;
    std::map<Digest, std::uint64_t> seen;  // in this batch
    done = true;
    const auto rewrite = [&](ByteSpan key, ByteSpan, SampleView& view) {
      if (batch.bytes >= batch_bytes_max) {
        from = copy_of(key);
        done = false;
        return false;
      }
      const Digest id = view.id;
      if (id == first_format_id(view)) view.id = sample_id({}, view.inputs);
      // Of two with the same inputs the later one stays, as it does when they come now.
      const auto before = find_number(view.id, seen);
      const std::uint64_t number = number_of_key(key).value_or(0);
      if (before && *before < number) batch.erase(samples_family, number_key(*before));
      if (view.id != id) batch.erase(ids_family, copy_of(id.span()));
      Bytes record = encode(view);
      const SampleIndex index{number, static_cast<std::uint32_t>(entry_bytes(record.size())),
                              view.label.has_value(), view.draw};
      batch.bytes += index.bytes;
      batch.put(samples_family, copy_of(key), std::move(record));
      batch.put(ids_family, copy_of(view.id.span()), encode(index));
      seen[view.id] = number;
      return true;
    };
    if (const auto status = scan_samples(store_, from, rewrite); !status) return status;
    if (const auto status = store_.commit(batch.writes, Durability::synced); !status) return status;
  }
  // What no sample has any more, if anything: an index without its sample would stay for ever.
  WriteBatch left;
  const auto status = store_.scan(ids_family, {}, [&](ByteSpan key, ByteSpan value) {
    if (is_first_format(value)) left.push_back(Erase{std::string(ids_family), copy_of(key)});
    return true;
  });
  if (!status || left.empty()) return status;
  return store_.commit(left, Durability::synced);
}

std::optional<std::uint64_t> SampleStore::find_number(const Digest& id,
                                                      const std::map<Digest, std::uint64_t>& seen) const {
  if (const auto found = seen.find(id); found != seen.end()) return found->second;
  const auto value = store_.get(ids_family, id.span());
  if (!value || !*value) return std::nullopt;
  const auto index = decode_index(**value);
  return index ? std::optional(index->number) : std::nullopt;
}

void SampleStore::count(SampleCounts& counts, const SampleIndex& index, bool used, int sign) const {
  const auto by = static_cast<std::uint64_t>(sign);  // Wraps for -1, as the sum does.
  const bool holdout = in_holdout(index.draw, limits_.holdout_fraction);
  (!index.labelled ? counts.unlabelled : holdout ? counts.holdout : counts.training) += by;
  if (used) (holdout ? counts.used_holdout : counts.used_training) += by;
  counts.bytes += by * index.bytes;
}

void SampleStore::count(SampleCounts& counts, const SampleView& view, std::uint64_t bytes, int sign) const {
  const bool used = fit_ ? fit_->uses(view.inputs, view.label) : view.label.has_value();
  const SampleIndex index{0, static_cast<std::uint32_t>(bytes), view.label.has_value(), view.draw};
  count(counts, index, used, sign);
}

Status SampleStore::set_fit(const SampleFit& fit) {
  const std::lock_guard lock(mutex_);
  if (fit_ == fit) return {};
  const auto before = std::exchange(fit_, fit);
  SampleCounts counts;
  const auto status = scan_samples(store_, {}, [&](ByteSpan, ByteSpan value, const SampleView& view) {
    count(counts, view, entry_bytes(value.size()), +1);
    return true;
  });
  if (status) {
    set_counts(counts);
  } else {
    fit_ = before;
  }
  return status;
}

Result<AddOutcome> SampleStore::add(std::span<const NewSample> samples, UtcTime now) {
  const std::lock_guard lock(mutex_);
  AddOutcome outcome;
  std::size_t index = 0;
  while (index < samples.size()) {
    Batch batch = begin_batch();
    const std::uint64_t bytes_max = std::min<std::uint64_t>(batch_bytes_max, limits_.bytes_max / 2);
    for (; index < samples.size() && batch.bytes < bytes_max; ++index) {
      const Digest id = sample_id(samples[index].id, samples[index].inputs);
      if (batch.ids.contains(id)) break;  // What is in the batch is to be in the store before it is judged.
      if (const auto status = add_one(samples[index], id, index, now, batch, outcome); !status) {
        return std::unexpected(status.error());
      }
    }
    if (const auto status = commit(batch, outcome); !status) return std::unexpected(status.error());
  }
  return outcome;
}

SampleStore::Batch SampleStore::begin_batch() const {
  Batch batch;
  batch.counts = counts_;
  batch.next = next_;
  batch.oldest = oldest_;
  return batch;
}

Status SampleStore::add_one(const NewSample& sample, const Digest& id, std::size_t index, UtcTime now,
                            Batch& batch, AddOutcome& outcome) {
  auto sound = check(sample, limits_.bytes_max);
  if (sound && fit_) sound = fit_->check(sample.inputs, sample.label);
  if (!sound) {
    outcome.refused.push_back({index, sound.error().detail});
    return {};
  }
  const auto known = store_.get(ids_family, id.span());
  if (!known) return std::unexpected(known.error());
  if (*known) {
    const auto replaced = give_way(**known, id, sample, batch);
    if (!replaced) return std::unexpected(replaced.error());
    if (!*replaced) {
      ++outcome.duplicate;
      return {};
    }
  }
  SampleView view{id, sample.inputs, {}, now, holdout_draw(sample.inputs)};
  if (sample.label) view.label = *sample.label;
  Bytes record = encode(view);
  const auto bytes = static_cast<std::uint32_t>(entry_bytes(record.size()));
  batch.put(samples_family, number_key(batch.next), std::move(record));
  batch.put(ids_family, copy_of(id.span()),
            encode(SampleIndex{batch.next, bytes, view.label.has_value(), view.draw}));
  count(batch.counts, view, bytes, +1);
  batch.ids.insert(id);
  batch.bytes += bytes;
  ++batch.next;
  ++batch.stored;
  return {};
}

/// Removes the sample that is known by this id, if the new one tells more: its first label, or another label
/// for the same inputs. @return whether it did; else the new one is a duplicate.
Result<bool> SampleStore::give_way(ByteSpan known, const Digest& id, const NewSample& sample,
                                   Batch& batch) const {
  const auto index = decode_index(known);
  if (!index) return fail_corrupt(id.span());
  if (!sample.label) return false;
  const auto record = store_.get(samples_family, number_key(index->number));
  if (!record) return std::unexpected(record.error());
  std::vector<float> inputs;
  SampleView before;
  if (!*record || !decode(**record, inputs, before)) return fail_corrupt(id.span());
  if (before.label && (before.label == *sample.label || inputs != sample.inputs)) return false;
  batch.erase(samples_family, number_key(index->number));
  count(batch.counts, before, index->bytes, -1);
  return true;
}

Status SampleStore::commit(Batch& batch, AddOutcome& outcome) {
  if (batch.writes.empty()) return {};
  const auto too_full = [&](std::uint64_t, UtcTime) { return batch.counts.bytes > limits_.bytes_max; };
  if (const auto status = drop_oldest(batch, too_full); !status) return status;
  if (const auto status = store_.commit(batch.writes, Durability::buffered); !status) return status;
  set_counts(batch.counts);
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
  const auto drop = [&](ByteSpan key, ByteSpan value, const SampleView& view) {
    if (batch.ids.contains(view.id)) return true;  // It gives way to its labelled form anyway.
    if (!wanted(batch.dropped, view.time)) return false;
    batch.erase(samples_family, copy_of(key));
    batch.erase(ids_family, copy_of(view.id.span()));
    count(batch.counts, view, entry_bytes(value.size()), -1);
    batch.oldest = number_of_key(key).value_or(0) + 1;
    ++batch.dropped;
    return true;
  };
  // From the oldest that is left: what was erased before it need not be walked over again.
  return scan_samples(store_, number_key(batch.oldest), drop);
}

Result<std::uint64_t> SampleStore::expire(UtcTime now) {
  if (limits_.age_max.count() == 0) return std::uint64_t{0};
  const std::lock_guard lock(mutex_);
  Batch batch = begin_batch();
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
  const std::lock_guard lock(counts_mutex_);
  return counts_;
}

void SampleStore::set_counts(const SampleCounts& counts) {
  const std::lock_guard lock(counts_mutex_);
  counts_ = counts;
}

Status SampleStore::visit(Split split, const std::function<bool(const SampleView&)>& visit,
                          bool unlabelled) const {
  return scan_samples(store_, {}, [&](ByteSpan, ByteSpan, const SampleView& view) {
    if (!view.label && !unlabelled) return true;
    if (in_holdout(view.draw, limits_.holdout_fraction) != (split == Split::holdout)) return true;
    return visit(view);
  });
}

}  // namespace rivulet::node
