#include "models/runtime/torchscript/zip_directory.h"

#include <spdlog/fmt/fmt.h>

#include <optional>

namespace rivulet::torchscript {
namespace {

constexpr std::size_t local_bytes = 30;
constexpr std::size_t entry_bytes = 46;
constexpr std::size_t end_bytes = 22;
constexpr std::size_t locator_bytes = 20;
constexpr std::size_t end64_bytes = 56;

constexpr std::uint32_t local_magic = 0x04034b50;
constexpr std::uint32_t entry_magic = 0x02014b50;
constexpr std::uint32_t end_magic = 0x06054b50;
constexpr std::uint32_t locator_magic = 0x07064b50;
constexpr std::uint32_t end64_magic = 0x06064b50;

/// Stands in a field whose value is elsewhere, in a 64-bit extension: no file that is taken is so large.
constexpr std::uint32_t elsewhere = 0xffffffff;
constexpr std::uint16_t entries_max = 0xfffe;

std::unexpected<Error> damaged(const char* what) {
  return fail(Errc::corrupt, fmt::format("the archive's {}", what));
}

/// Numbers at places within bytes that are there.
class Fields {
 public:
  Fields(ByteSpan file, std::size_t at, std::size_t size) : bytes_(file.subspan(at, size)) {}

  template <typename T>
  [[nodiscard]] T at(std::size_t place) const {
    return load_le<T>(bytes_.subspan(place, sizeof(T)));
  }

 private:
  ByteSpan bytes_;
};

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t begin = 0;
  std::uint64_t size = 0;

  bool operator==(const Directory&) const = default;
};

Status check_end64(ByteSpan file, std::size_t locator, const Directory& plain) {
  const Fields where(file, locator, locator_bytes);
  const std::size_t end = locator - end64_bytes;
  const Fields fields(file, end, end64_bytes);
  const bool here = where.at<std::uint32_t>(4) == 0 && where.at<std::uint64_t>(8) == end &&
                    where.at<std::uint32_t>(16) == 1 && fields.at<std::uint32_t>(0) == end64_magic &&
                    fields.at<std::uint64_t>(4) == end64_bytes - 12;
  const Directory other{fields.at<std::uint64_t>(32), fields.at<std::uint64_t>(48),
                        fields.at<std::uint64_t>(40)};
  const bool one_disk = fields.at<std::uint32_t>(16) == 0 && fields.at<std::uint32_t>(20) == 0 &&
                        fields.at<std::uint64_t>(24) == other.entries;
  if (!here || !one_disk || other != plain) return damaged("two ends say different things");
  return {};
}

Result<Directory> find_directory(ByteSpan file) {
  if (file.size() < end_bytes) return damaged("end is missing");
  const std::size_t end = file.size() - end_bytes;
  const Fields fields(file, end, end_bytes);
  if (fields.at<std::uint32_t>(0) != end_magic || fields.at<std::uint16_t>(20) != 0)
    return damaged("end is not at the end of the file");
  const Directory found{fields.at<std::uint16_t>(10), fields.at<std::uint32_t>(16),
                        fields.at<std::uint32_t>(12)};
  if (fields.at<std::uint32_t>(4) != 0 || fields.at<std::uint16_t>(8) != found.entries ||
      found.entries > entries_max)
    return damaged("end tells of other disks, or of too many parts");
  std::size_t directory_end = end;
  constexpr std::size_t more = locator_bytes + end64_bytes;
  if (end >= more && Fields(file, end - locator_bytes, 4).at<std::uint32_t>(0) == locator_magic) {
    directory_end = end - more;
    if (Status same = check_end64(file, end - locator_bytes, found); !same)
      return std::unexpected(same.error());
  }
  // Of 32 bits both, so the sum is right.
  if (found.begin + found.size != directory_end)
    return damaged("directory does not end where its end begins");
  return found;
}

/// @param limit where the directory begins. @return whether the part's own header has the same name.
bool matches_local(ByteSpan file, std::uint64_t at, std::uint64_t limit, std::uint64_t packed,
                   std::string_view name) {
  if (at > limit || limit - at < local_bytes) return false;
  const Fields fields(file, at, local_bytes);
  const std::uint64_t name_bytes = fields.at<std::uint16_t>(26);
  const std::uint64_t whole = local_bytes + name_bytes + fields.at<std::uint16_t>(28) + packed;
  return fields.at<std::uint32_t>(0) == local_magic && whole <= limit - at &&
         text_of(file.subspan(at + local_bytes, name_bytes)) == name;
}

}  // namespace

Result<std::vector<ZipEntry>> read_zip_directory(ByteSpan file) {
  const auto directory = find_directory(file);
  if (!directory) return std::unexpected(directory.error());
  const std::uint64_t end = directory->begin + directory->size;
  std::vector<ZipEntry> entries;
  std::uint64_t at = directory->begin;
  for (std::uint64_t i = 0; i < directory->entries; ++i) {
    if (end - at < entry_bytes) return damaged("directory is too short for its parts");
    const Fields fields(file, at, entry_bytes);
    const std::uint64_t name_bytes = fields.at<std::uint16_t>(28);
    const std::uint64_t length =
        entry_bytes + name_bytes + fields.at<std::uint16_t>(30) + fields.at<std::uint16_t>(32);
    if (fields.at<std::uint32_t>(0) != entry_magic || length > end - at)
      return damaged("directory is damaged");
    const std::string_view name = text_of(file.subspan(at + entry_bytes, name_bytes));
    const std::uint32_t packed = fields.at<std::uint32_t>(20);
    const std::uint32_t unpacked = fields.at<std::uint32_t>(24);
    const std::uint32_t local = fields.at<std::uint32_t>(42);
    const bool plain = (fields.at<std::uint16_t>(8) & 1) == 0 && fields.at<std::uint16_t>(34) == 0;
    if (packed == elsewhere || unpacked == elsewhere || local == elsewhere || !plain)
      return damaged("directory has encrypted parts, or such as are elsewhere");
    if (name.find('\0') != std::string_view::npos ||
        !matches_local(file, local, directory->begin, packed, name))
      return damaged("parts have other names than its directory says");
    entries.push_back({std::string(name), unpacked});
    at += length;
  }
  if (at != end) return damaged("directory is longer than its parts");
  return entries;
}

}  // namespace rivulet::torchscript
