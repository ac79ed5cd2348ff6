#pragma once

#include <functional>
#include <string>
#include <vector>

#include "storage/blob_store.h"
#include "storage/store.h"

namespace rivulet {

// What the crash tests do to a disk, and what must be left of it: blobs first, then the batch that refers
// to them, then the acknowledgement.

inline const std::vector<std::string> workload_families = {"items", "samples"};

inline Bytes content_of(std::uint64_t item) {
  Bytes content;
  for (std::uint64_t i = 0; i < 100 + item * 37; ++i) content.push_back(static_cast<std::byte>(i * 7 + item));
  return content;
}

inline Status store_content(BlobStore& blobs, std::uint64_t item) {
  const Bytes content = content_of(item);
  const ContentId id = content_id_of(content);
  if (item % 3 == 0) return blobs.put(id, content);
  if (auto cut = blobs.erase_part(id); !cut) return cut;
  const std::size_t half = content.size() / 2;
  if (auto first = blobs.append_part(id, 0, ByteSpan(content).first(half)); !first) return first;
  if (auto second = blobs.append_part(id, half, ByteSpan(content).subspan(half)); !second) return second;
  return blobs.finish_part(id);
}

/// Stores `count` items after those that are there. `acknowledge` hears of each that must survive.
inline Status work(Store& store, BlobStore& blobs, std::uint64_t count,
                   const std::function<void(std::uint64_t)>& acknowledge) {
  const auto last = store.last("items");
  if (!last) return std::unexpected(last.error());
  const std::uint64_t before = *last ? *number_of_key((*last)->key) : 0;
  for (std::uint64_t item = before + 1; item <= before + count; ++item) {
    if (auto stored = store_content(blobs, item); !stored) return stored;
    const WriteBatch sample = {Put{"samples", number_key(item), content_of(item)}};
    if (auto kept = store.commit(sample, Durability::buffered); !kept) return kept;
    const WriteBatch reference = {
        Put{"items", number_key(item), copy_of(content_id_of(content_of(item)).span())},
        Erase{"items", number_key(0)}};
    if (auto committed = store.commit(reference, Durability::synced); !committed) return committed;
    acknowledge(item);
  }
  return {};
}

/// @return what of the acknowledged items 1 to `acknowledged` is lost, or what is there and should not be;
/// empty if all is well.
inline std::string find_loss(const Store& store, const BlobStore& blobs, std::uint64_t acknowledged) {
  std::string problem;
  std::uint64_t items = 0;
  const auto scanned = store.scan("items", {}, [&](ByteSpan key, ByteSpan value) {
    const auto id = ContentId::from_bytes(value);
    if (number_of_key(key) != ++items || !id) {
      problem = "the items are no prefix at " + std::to_string(items);
    } else if (const auto list = hash_blob(blobs, *id); !list || list->id() != *id) {
      problem = "the blob of item " + std::to_string(items) + " is missing or torn";
    } else if (*id != content_id_of(content_of(items))) {
      problem = "item " + std::to_string(items) + " is another's";
    }
    return problem.empty();
  });
  if (!scanned) return scanned.error().detail;
  if (!problem.empty()) return problem;
  if (items < acknowledged)
    return "only " + std::to_string(items) + " of " + std::to_string(acknowledged) + " items";
  if (items > acknowledged + 1) return "more items than were ever begun";

  std::uint64_t samples = 0;
  const auto sampled = store.scan("samples", {}, [&](ByteSpan key, ByteSpan value) {
    if (number_of_key(key) != ++samples || copy_of(value) != content_of(samples)) {
      problem = "the samples are no prefix at " + std::to_string(samples);
    }
    return problem.empty();
  });
  if (!sampled) return sampled.error().detail;
  if (problem.empty() && samples < items) return "a synced batch survived, but not the one before it";
  return problem;
}

}  // namespace rivulet
