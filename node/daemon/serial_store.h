#pragma once

#include <memory>
#include <mutex>

#include "storage/store.h"

namespace rivulet::node {

/// Lets several threads commit to one store, one at a time: the agent's records and the samples share a
/// store, so that one log and one sync serve both.
class SerialStore final : public Store {
 public:
  explicit SerialStore(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  Status commit(const WriteBatch& batch, Durability durability) override {
    const std::lock_guard lock(mutex_);
    return store_->commit(batch, durability);
  }
  Status sync() override {
    const std::lock_guard lock(mutex_);
    return store_->sync();
  }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override {
    return store_->get(family, key);
  }
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override {
    return store_->scan(family, prefix, visit, from);
  }
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override {
    return store_->last(family, prefix);
  }

 private:
  std::unique_ptr<Store> store_;
  std::mutex mutex_;  // of commit() and sync(); reads need none
};

}  // namespace rivulet::node
