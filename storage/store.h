#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "protocol/result.h"
#include "storage/write.h"

namespace rivulet {

enum class Durability {
  synced,    ///< Survives a crash once commit() has returned.
  buffered,  ///< Survives a crash after the next synced commit or sync(); a crash loses a suffix of these.
};

struct Entry {
  Bytes key;
  Bytes value;

  bool operator==(const Entry&) const = default;
};

/// An ordered key/value store with named families, which are fixed when it is opened. Keys sort as
/// unsigned bytes. A crash leaves a prefix of the committed batches that holds at least all synced
/// ones.
///
/// commit() and sync() come from one thread, reads from any.
///
/// After Errc::storage from commit() or sync() the store only reads: nobody knows what the disk kept, so
/// every later commit fails too, until the store is opened again. The batch that failed may or may not
/// be there then. After Errc::storage_full nothing of the batch is visible, and a later commit succeeds
/// when there is room again.
class Store {
 public:
  /// @return false to stop the scan. What it is given lives only during the call.
  using Visitor = std::function<bool(ByteSpan key, ByteSpan value)>;

  virtual ~Store() = default;

  /// @return invalid for an unknown family, storage, storage_full.
  virtual Status commit(const WriteBatch& batch, Durability durability) = 0;

  /// Makes all buffered commits durable. @return storage.
  virtual Status sync() = 0;

  /// @return the value, or nothing if the key is absent; invalid for an unknown family, corrupt, storage.
  virtual Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const = 0;

  /// Visits the keys that begin with `prefix` and are not below `from`, in ascending order. What is
  /// committed meanwhile may be seen or not. `visit` may call the store.
  virtual Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit,
                      ByteSpan from = {}) const = 0;

  /// The entry with the highest key that begins with `prefix`, if there is one.
  virtual Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix = {}) const = 0;
};

}  // namespace rivulet
