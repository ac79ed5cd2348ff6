#include "models/package/npz.h"

#include <spdlog/fmt/fmt.h>
#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <set>

#include "protocol/bytes.h"

namespace rivulet {
namespace {

constexpr std::uint16_t zip_version = 20;
constexpr std::uint16_t names_are_utf8 = 1 << 11;
constexpr std::uint16_t first_day = (1 << 5) | 1;  // 1980-01-01: no clock in the bytes.
constexpr std::uint64_t archive_bytes_max = std::numeric_limits<std::uint32_t>::max();

struct Member {
  std::string name;
  std::string header;  // of the .npy
  ByteSpan data;
  Bytes own = {};  // Where `data` lies, of texts.
  std::uint32_t crc = 0;
  std::uint64_t offset = 0;

  [[nodiscard]] std::uint64_t size() const { return header.size() + data.size(); }
};

/// Magic, version 1.0, and a Python dictionary, filled up so that the data begins at a multiple of 64.
std::string npy_header(const std::string& type, const std::vector<std::int64_t>& shape) {
  std::string dimensions;
  for (const std::int64_t dimension : shape) dimensions += fmt::format("{}, ", dimension);
  if (shape.size() > 1) dimensions.resize(dimensions.size() - 2);
  if (shape.size() == 1) dimensions.pop_back();  // "(3,)"
  std::string text =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, dimensions);
  constexpr std::size_t prefix = 10;
  text.append(63 - (prefix + text.size()) % 64, ' ');
  text += '\n';
  const auto length = static_cast<std::uint16_t>(text.size());
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(length & 0xff);
  header += static_cast<char>(length >> 8);
  return header + text;
}

std::uint32_t crc_of(std::uint32_t crc, ByteSpan bytes) {
  if (bytes.empty()) return crc;  // zlib takes a null pointer as the wish to start anew.
  return static_cast<std::uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// The fields that a local header and an entry of the central directory have in common.
void append_common(Bytes& out, const Member& member) {
  append_le(out, zip_version);
  append_le(out, names_are_utf8);
  append_le(out, std::uint16_t{0});  // stored
  append_le(out, std::uint16_t{0});  // midnight
  append_le(out, first_day);
  append_le(out, member.crc);
  append_le(out, static_cast<std::uint32_t>(member.size()));
  append_le(out, static_cast<std::uint32_t>(member.size()));
  append_le(out, static_cast<std::uint16_t>(member.name.size()));
  append_le(out, std::uint16_t{0});  // no extra field
}

void append_text(Bytes& out, std::string_view text) {
  const ByteSpan bytes = bytes_of(text);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Bytes local_header(const Member& member) {
  Bytes out;
  append_le(out, std::uint32_t{0x04034b50});
  append_common(out, member);
  append_text(out, member.name);
  append_text(out, member.header);
  return out;
}

Bytes central_directory(const std::vector<Member>& members, std::uint64_t offset) {
  Bytes out;
  for (const Member& member : members) {
    append_le(out, std::uint32_t{0x02014b50});
    append_le(out, zip_version);
    append_common(out, member);
    append_le(out, std::uint16_t{0});  // no comment
    append_le(out, std::uint16_t{0});  // disk
    append_le(out, std::uint16_t{0});  // internal attributes
    append_le(out, std::uint32_t{0});  // external attributes
    append_le(out, static_cast<std::uint32_t>(member.offset));
    append_text(out, member.name);
  }
  const auto size = static_cast<std::uint32_t>(out.size());
  append_le(out, std::uint32_t{0x06054b50});
  append_le(out, std::uint32_t{0});  // this disk, and the directory's
  append_le(out, static_cast<std::uint16_t>(members.size()));
  append_le(out, static_cast<std::uint16_t>(members.size()));
  append_le(out, size);
  append_le(out, static_cast<std::uint32_t>(offset));
  append_le(out, std::uint16_t{0});  // no comment
  return out;
}

/// Code points of UTF-8 (RFC 3629, without its rule against long forms).
std::vector<std::uint32_t> code_points(std::string_view text) {
  constexpr std::uint32_t replacement = 0xfffd;
  std::vector<std::uint32_t> points;
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    const int more = first < 0x80       ? 0
                     : first >> 5 == 6  ? 1
                     : first >> 4 == 14 ? 2
                     : first >> 3 == 30 ? 3
                                        : -1;
    std::uint32_t point = more <= 0 ? first : first & (0x3fU >> more);
    bool good = more >= 0;
    for (int k = 0; k < more && good; ++k) {
      good = i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80;
      if (good) point = point << 6 | (static_cast<unsigned char>(text[i++]) & 0x3fU);
    }
    points.push_back(good && point < 0x110000 ? point : replacement);
  }
  return points;
}

/// Each text as code points of 4 bytes, filled up with zeros to the length of the longest.
Member member_of(const NpyTexts& texts) {
  std::vector<std::vector<std::uint32_t>> rows;
  std::size_t longest = 1;
  for (const std::string& value : texts.values) {
    rows.push_back(code_points(value));
    longest = std::max(longest, rows.back().size());
  }
  Member member{texts.name + ".npy",
                npy_header(fmt::format("<U{}", longest), {static_cast<std::int64_t>(rows.size())}),
                {},
                {}};
  for (std::vector<std::uint32_t>& row : rows) {
    row.resize(longest, 0);
    for (const std::uint32_t point : row) append_le(member.own, point);
  }
  member.data = member.own;
  return member;
}

Result<std::vector<Member>> members_of(const std::vector<NpyArray>& arrays,
                                       const std::vector<NpyTexts>& texts) {
  if (arrays.size() + texts.size() >= std::numeric_limits<std::uint16_t>::max()) {
    return fail(Errc::too_large, fmt::format("{} arrays are too many for a ZIP archive", arrays.size()));
  }
  std::vector<Member> members;
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  const auto add = [&](Member member) {
    member.crc = crc_of(crc_of(0, bytes_of(member.header)), member.data);
    member.offset = offset;
    offset += 30 + member.name.size() + member.size();
    members.push_back(std::move(member));
  };
  const auto check_name = [&](const std::string& name) -> Status {
    if (!name.empty() && name.size() <= 4096 && names.insert(name).second) return {};
    return fail(Errc::invalid, fmt::format("the array name '{}' is empty, too long or used twice", name));
  };
  for (const NpyArray& array : arrays) {
    if (Status named = check_name(array.name); !named) return std::unexpected(named.error());
    std::size_t entries = 1;
    for (const std::int64_t dimension : array.shape) entries *= static_cast<std::size_t>(dimension);
    if (entries != array.values.size() || array.shape.size() > 32) {
      return fail(Errc::invalid, fmt::format("the shape of '{}' has {} entries, its data {}", array.name,
                                             entries, array.values.size()));
    }
    add({array.name + ".npy", npy_header("<f4", array.shape), std::as_bytes(array.values)});
  }
  for (const NpyTexts& list : texts) {
    if (Status named = check_name(list.name); !named) return std::unexpected(named.error());
    add(member_of(list));
  }
  std::uint64_t directory = 22;
  for (const Member& member : members) directory += 46 + member.name.size();
  if (offset + directory > archive_bytes_max) {
    return fail(Errc::too_large,
                fmt::format("{} bytes are too many for a ZIP archive without its 64-bit extension",
                            offset + directory));
  }
  return members;
}

}  // namespace

Status write_npz(const std::filesystem::path& file, const std::vector<NpyArray>& arrays,
                 const std::vector<NpyTexts>& texts) {
  const auto members = members_of(arrays, texts);
  if (!members) return fail_at(file.string(), members.error());
  // A device, say, that a rename would replace.
  std::error_code unknown;
  if (std::filesystem::is_other(file, unknown)) {
    return fail(Errc::invalid,
                fmt::format("{} is no file that can be replaced: name another one", file.string()));
  }
  std::filesystem::path part = file;
  part += ".part";
  std::ofstream stream(part, std::ios::binary | std::ios::trunc);
  const auto write = [&](ByteSpan bytes) {
    stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  std::uint64_t offset = 0;
  for (const Member& member : *members) {
    write(local_header(member));
    write(member.data);
    offset = member.offset + 30 + member.name.size() + member.size();
  }
  write(central_directory(*members, offset));
  stream.close();
  std::error_code error;
  if (stream) std::filesystem::rename(part, file, error);
  if (stream && !error) return {};
  std::error_code ignored;  // Best effort: what failed is reported, the rest of it only takes room.
  std::filesystem::remove(part, ignored);
  return fail(Errc::storage, fmt::format("{} cannot be written: {}", file.string(),
                                         error ? error.message() : "check the folder and the free space"));
}

}  // namespace rivulet
