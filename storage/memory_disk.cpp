#include "storage/memory_disk.h"

#include <unordered_map>

#include "protocol/assert.h"
#include "storage/memory_disk_state.h"

namespace rivulet {

struct ContentPool::State {
  std::mutex mutex;
  std::unordered_map<ContentId, std::weak_ptr<const Bytes>> contents;
};

ContentPool::ContentPool() : state_(std::make_unique<State>()) {}
ContentPool::~ContentPool() = default;

std::shared_ptr<const Bytes> ContentPool::share(const ContentId& id, Bytes content) {
  const std::lock_guard lock(state_->mutex);
  auto& known = state_->contents[id];
  if (auto shared = known.lock()) {
    if (*shared == content) return shared;
    return std::make_shared<const Bytes>(std::move(content));
  }
  auto shared = std::make_shared<const Bytes>(std::move(content));
  known = shared;
  return shared;
}

MemoryDisk::MemoryDisk(std::shared_ptr<ContentPool> pool) : state_(std::make_shared<State>()) {
  state_->pool = std::move(pool);
}

MemoryDisk::~MemoryDisk() = default;

void MemoryDisk::State::apply(const WriteBatch& batch) {
  auto& undo = unsynced.emplace_back();
  for (const Write& write : batch) {
    const bool puts = std::holds_alternative<Put>(write);
    const auto& family_name = puts ? std::get<Put>(write).family : std::get<Erase>(write).family;
    const auto& key = puts ? std::get<Put>(write).key : std::get<Erase>(write).key;
    Family& family = families.find(family_name)->second;
    const auto old = family.find(key);
    undo.push_back({family_name, key, old == family.end() ? std::nullopt : std::optional(old->second)});
    if (puts) {
      family[key] = std::get<Put>(write).value;
    } else {
      family.erase(key);
    }
  }
}

void MemoryDisk::State::take_back_last() {
  auto& undo = unsynced.back();
  while (!undo.empty()) {
    Undo& last = undo.back();
    Family& family = families.find(last.family)->second;
    if (last.value) {
      family[last.key] = std::move(*last.value);
    } else {
      family.erase(last.key);
    }
    undo.pop_back();
  }
  unsynced.pop_back();
}

void MemoryDisk::crash(Rng& rng) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  ++state.crashes;
  state.commit_fault.reset();
  state.blob_fault.reset();

  if (state.limbo) state.apply(*std::exchange(state.limbo, std::nullopt));
  const std::uint64_t kept = uniform_below(rng, state.unsynced.size() + 1);
  while (state.unsynced.size() > kept) state.take_back_last();
  state.unsynced.clear();  // What a crash has left cannot be lost by the next one.

  for (auto& [id, blob] : state.erased) {
    if (uniform_below(rng, 2) == 0) state.blobs.try_emplace(id, std::move(blob));
  }
  state.erased.clear();
  for (auto entry = state.blobs.begin(); entry != state.blobs.end();) {
    State::Blob& blob = entry->second;
    if (!blob.durable) {  // Renamed, but its bytes never reached the disk: absent, or torn under its final
                          // name.
      const std::uint64_t length = uniform_below(rng, blob.content->size() + 1);
      if (uniform_below(rng, 2) == 0) {
        entry = state.blobs.erase(entry);
        continue;
      }
      Bytes torn(blob.content->begin(), blob.content->begin() + static_cast<std::ptrdiff_t>(length));
      blob = {std::make_shared<const Bytes>(std::move(torn)), true};
    }
    ++entry;
  }
  for (auto entry = state.parts.begin(); entry != state.parts.end();) {
    Bytes& content = entry->second.content;
    content.resize(uniform_below(rng, content.size() + 1));
    // A part whose folder entry was never synced may be gone altogether.
    entry = content.empty() && uniform_below(rng, 2) == 0 ? state.parts.erase(entry) : std::next(entry);
  }
  state.used_bytes = 0;
  for (const auto& [id, blob] : state.blobs) state.used_bytes += blob.content->size();
  for (const auto& [id, part] : state.parts) state.used_bytes += part.content.size();
}

void MemoryDisk::fail_next_commit(Errc code) {
  RIVULET_ASSERT(code == Errc::storage || code == Errc::storage_full);
  const std::lock_guard lock(state_->mutex);
  state_->commit_fault = code;
}

void MemoryDisk::fail_next_blob_write(Errc code) {
  RIVULET_ASSERT(code == Errc::storage || code == Errc::storage_full);
  const std::lock_guard lock(state_->mutex);
  state_->blob_fault = code;
}

void MemoryDisk::lie_about_sync(bool lies) {
  const std::lock_guard lock(state_->mutex);
  state_->lies = lies;
}

void MemoryDisk::set_time(UtcTime now) {
  const std::lock_guard lock(state_->mutex);
  state_->now = now;
}

}  // namespace rivulet
