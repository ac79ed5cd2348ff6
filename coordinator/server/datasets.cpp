#include "coordinator/server/datasets.h"

#include <algorithm>
#include <cstring>

#include "protocol/assert.h"
#include "protocol/sha256.h"
#include "storage/file.h"

namespace rivulet::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view magic("RIVULET.DATA.1\n\0", 16);
constexpr std::string_view magic_of_targets("RIVULET.DATA.2\n\0", 16);
constexpr std::size_t head_bytes = magic.size() + 2 * sizeof(std::uint64_t);
constexpr std::uint64_t file_bytes_max = std::uint64_t{4} << 30;

/// A file but for the hash at its end.
Bytes encode(const ScoringData& data) {
  RIVULET_ASSERT(!data.labels.empty() && data.inputs.size() % data.labels.size() == 0);
  RIVULET_ASSERT(data.targets.empty() || data.targets.size() == data.labels.size());
  Bytes bytes = copy_of(bytes_of(data.targets.empty() ? magic : magic_of_targets));
  append_le<std::uint64_t>(bytes, data.labels.size());
  append_le<std::uint64_t>(bytes, data.inputs.size() / data.labels.size());
  const ByteSpan inputs = std::as_bytes(std::span(data.inputs));
  const ByteSpan labels =
      data.targets.empty() ? std::as_bytes(std::span(data.labels)) : std::as_bytes(std::span(data.targets));
  bytes.insert(bytes.end(), inputs.begin(), inputs.end());
  bytes.insert(bytes.end(), labels.begin(), labels.end());
  return bytes;
}

Result<ScoringData> decode(ByteSpan bytes) {
  const auto corrupt = [] { return fail(Errc::corrupt, "is damaged: import the release again"); };
  if (bytes.size() < head_bytes + Digest::size) return corrupt();
  const bool has_targets = text_of(bytes.first(magic.size())) == magic_of_targets;
  if (!has_targets && text_of(bytes.first(magic.size())) != magic) return corrupt();
  const ByteSpan signed_part = bytes.first(bytes.size() - Digest::size);
  if (sha256(signed_part) != *Digest::from_bytes(bytes.last(Digest::size))) return corrupt();
  const auto samples = load_le<std::uint64_t>(bytes, magic.size());
  const auto inputs = load_le<std::uint64_t>(bytes, magic.size() + sizeof(std::uint64_t));
  const std::uint64_t body = signed_part.size() - head_bytes;
  // Divided rather than multiplied: no overflow.
  const std::size_t label_bytes = has_targets ? sizeof(float) : sizeof(std::int64_t);
  const std::uint64_t sample_bytes = inputs <= body ? inputs * sizeof(float) + label_bytes : 0;
  if (sample_bytes == 0 || samples == 0 || body % sample_bytes != 0 || body / sample_bytes != samples)
    return corrupt();
  ScoringData data;
  data.inputs.resize(samples * inputs);
  data.labels.resize(samples);
  std::memcpy(data.inputs.data(), bytes.data() + head_bytes, data.inputs.size() * sizeof(float));
  if (has_targets) data.targets.resize(samples);
  std::memcpy(has_targets ? static_cast<void*>(data.targets.data()) : data.labels.data(),
              bytes.data() + head_bytes + data.inputs.size() * sizeof(float), samples * label_bytes);
  return data;
}

}  // namespace

fs::path Datasets::file_of(const ReleaseId& release, Split split) const {
  return folder_ / (release.hex() + (split == Split::holdout ? ".holdout" : ".test"));
}

Digest Datasets::hash_of(const ScoringData& data) { return sha256(encode(data)); }

Status Datasets::store(const ReleaseId& release, Split split, const ScoringData& data) {
  if (Status status = make_folder(folder_); !status) return status;
  loaded_.erase({release, split});
  Bytes bytes = encode(data);
  const Digest digest = sha256(bytes);
  bytes.insert(bytes.end(), digest.bytes.begin(), digest.bytes.end());
  return write_file_durably(file_of(release, split), bytes);
}

Result<std::optional<ScoringData>> Datasets::read(const ReleaseId& release, Split split) const {
  const fs::path file = file_of(release, split);
  const auto bytes = read_file(file, file_bytes_max);
  if (!bytes && bytes.error().code == Errc::not_found) return std::nullopt;
  if (!bytes) return std::unexpected(bytes.error());
  auto data = decode(*bytes);
  if (!data) return fail(Errc::corrupt, file.string() + " " + data.error().detail);
  return std::move(*data);
}

Result<const ScoringData*> Datasets::find(const ReleaseId& release, Split split) {
  const std::pair key{release, split};
  if (const auto found = loaded_.find(key); found != loaded_.end()) return &found->second;
  auto data = read(release, split);
  if (!data) return std::unexpected(data.error());
  if (!*data) return nullptr;
  // Older releases are not scored any more: their samples go.
  std::erase_if(loaded_, [&](const auto& entry) { return entry.first.first != release; });
  return &loaded_.emplace(key, std::move(**data)).first->second;
}

void Datasets::erase(const ReleaseId& release) {
  for (const Split split : {Split::holdout, Split::test}) {
    loaded_.erase({release, split});
    std::error_code ignored;
    fs::remove(file_of(release, split), ignored);
  }
}

void Datasets::sweep(const std::set<ReleaseId>& releases) const {
  std::error_code ignored;  // Best effort: what stays does no harm.
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const auto release = ReleaseId::from_hex(entry.path().stem().string());
    if (!release || !releases.contains(*release)) fs::remove(entry.path(), ignored);
  }
}

}  // namespace rivulet::coordinator
