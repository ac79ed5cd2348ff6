#include <algorithm>

#include "storage/memory_disk_state.h"

namespace rivulet {

namespace {

class MemoryStore final : public Store {
 public:
  MemoryStore(std::shared_ptr<MemoryDisk::State> disk, std::vector<std::string> families)
      : disk_(std::move(disk)), names_(std::move(families)) {
    const std::lock_guard lock(disk_->mutex);
    crashes_ = disk_->crashes;
    for (const auto& name : names_) disk_->families.try_emplace(name);
    // The log has the batch whose commit failed, so opening the log replays it.
    if (disk_->limbo) disk_->apply(*std::exchange(disk_->limbo, std::nullopt));
  }

  Status commit(const WriteBatch& batch, Durability durability) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    for (const Write& write : batch) {
      const auto& family =
          std::visit([](const auto& one) -> const std::string& { return one.family; }, write);
      if (auto known = check_family(family); !known) return known;
    }
    if (const auto fault = std::exchange(disk_->commit_fault, std::nullopt)) {
      if (*fault == Errc::storage_full) return fail(*fault, "no space left on the simulated disk: make room");
      failed_ = true;
      disk_->limbo = batch;
      return fail(*fault, "input/output error of the simulated disk: replace it");
    }
    disk_->apply(batch);
    if (durability == Durability::synced && !disk_->lies) disk_->unsynced.clear();
    return {};
  }

  Status sync() override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    if (!disk_->lies) disk_->unsynced.clear();
    return {};
  }

  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    const std::lock_guard lock(disk_->mutex);
    const auto entries = readable(family);
    if (!entries) return std::unexpected(entries.error());
    const auto found = (*entries)->find(copy_of(key));
    if (found == (*entries)->end()) return std::optional<Bytes>();
    return std::optional(found->second);
  }

  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    // One entry at a time, so that the visitor runs without the lock and may call the store.
    const bool skips = std::ranges::lexicographical_compare(prefix, from);
    Bytes next = copy_of(skips ? from : prefix);
    for (bool inclusive = true;; inclusive = false) {
      Entry entry;
      {
        const std::lock_guard lock(disk_->mutex);
        const auto entries = readable(family);
        if (!entries) return std::unexpected(entries.error());
        const auto found = inclusive ? (*entries)->lower_bound(next) : (*entries)->upper_bound(next);
        if (found == (*entries)->end() || !has_prefix(found->first, prefix)) return {};
        entry = {found->first, found->second};
      }
      if (!visit(entry.key, entry.value)) return {};
      next = std::move(entry.key);
    }
  }

  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    const std::lock_guard lock(disk_->mutex);
    const auto entries = readable(family);
    if (!entries) return std::unexpected(entries.error());
    Bytes end = copy_of(prefix);  // The first key behind all that begin with the prefix.
    while (!end.empty() && end.back() == std::byte{0xff}) end.pop_back();
    if (!end.empty()) end.back() = static_cast<std::byte>(std::to_integer<unsigned>(end.back()) + 1);
    auto found = end.empty() ? (*entries)->end() : (*entries)->lower_bound(end);
    if (found == (*entries)->begin() || !has_prefix((--found)->first, prefix)) return std::optional<Entry>();
    return Entry{found->first, found->second};
  }

 private:
  static bool has_prefix(ByteSpan key, ByteSpan prefix) {
    return key.size() >= prefix.size() && std::ranges::equal(key.first(prefix.size()), prefix);
  }

  Status check_up() const {
    if (disk_->crashes == crashes_) return {};
    return fail(Errc::storage, "the simulated machine has crashed: open the store again");
  }
  Status check_writable() const {
    if (failed_)
      return fail(Errc::storage, "an earlier write failed, so the store only reads: open it again");
    return check_up();
  }
  Status check_family(std::string_view name) const {
    if (std::ranges::find(names_, name) != names_.end()) return {};
    return fail(Errc::invalid, "the store has no family \"" + std::string(name) + "\"");
  }
  Result<const MemoryDisk::State::Family*> readable(std::string_view name) const {
    if (auto up = check_up(); !up) return std::unexpected(up.error());
    if (auto known = check_family(name); !known) return std::unexpected(known.error());
    return &disk_->families.find(name)->second;
  }

  const std::shared_ptr<MemoryDisk::State> disk_;  // Shared with the MemoryDisk.
  const std::vector<std::string> names_;
  std::uint64_t crashes_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<Store> make_memory_store(MemoryDisk& disk, std::vector<std::string> families) {
  return std::make_unique<MemoryStore>(disk.state(), std::move(families));
}

}  // namespace rivulet
