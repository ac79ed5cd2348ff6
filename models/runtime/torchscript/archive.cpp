#include "models/runtime/torchscript/archive.h"

#include <caffe2/serialize/in_memory_adapter.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "models/runtime/model_impl.h"
#include "models/runtime/runtime.h"
#include "models/runtime/torchscript/zip_directory.h"

namespace rivulet::torchscript {
namespace {

using caffe2::serialize::kMaxSupportedFileFormatVersion;
using caffe2::serialize::PyTorchStreamReader;

/// LibTorch's reader lists names of 511 bytes at most, and finds longer ones all the same.
constexpr std::size_t name_bytes_max = 500;
constexpr std::uint64_t code_bytes_max = std::uint64_t{16} << 20;
constexpr const char* how_to_write = "write it again with torch.jit.script(model).save(path)";
/// LibTorch says it with both numbers, and offers no other way to learn the first.
constexpr std::string_view too_new = "with version ";

std::unexpected<Error> explain(std::string_view text) {
  const std::size_t at = text.find(too_new);
  if (at != std::string_view::npos && text.find("maximum supported version") != std::string_view::npos) {
    const std::string_view rest = text.substr(at + too_new.size());
    return fail(Errc::unsupported,
                fmt::format("it has file format {}, but LibTorch {} reads formats up to {}: save it with an "
                            "older PyTorch, or build rivulet with a newer LibTorch",
                            rest.substr(0, rest.find_first_not_of("0123456789")), libtorch_version(),
                            kMaxSupportedFileFormatVersion));
  }
  return fail(Errc::corrupt, fmt::format("it is no TorchScript file, or a damaged one: {} ({})", how_to_write,
                                         on_one_line(text).substr(0, 120)));
}

std::string_view text_of_record(const at::DataPtr& data, std::size_t size) {
  return {static_cast<const char*>(data.get()), size};
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_code(std::string_view name) { return name.starts_with("code/") && name.ends_with(".py"); }

/// Whether torch.jit.save() writes a part of that name, of any version since 1.4. Another one, or one in
/// other letters, is a part that LibTorch may read and nobody has looked at ("model.json" makes it take the
/// format of before, whose code lies anywhere).
bool is_known(std::string_view name) {
  static constexpr std::array<std::string_view, 9> names = {
      "data.pkl",        "constants.pkl",      "traced_inputs.pkl",      "version",  ".data/version",
      ".format_version", ".storage_alignment", ".data/serialization_id", "byteorder"};
  static constexpr std::array<std::string_view, 3> tensors = {"data/", "constants/", "traced_inputs/"};
  if (std::ranges::find(names, name) != names.end() || is_code(name) || name.starts_with("extra/"))
    return true;
  if (name.starts_with("code/") && name.ends_with(".py.debug_pkl")) return true;
  return std::ranges::any_of(tensors, [&](std::string_view folder) {
    return name.starts_with(folder) && is_number(name.substr(folder.size()));
  });
}

std::string in_small_letters(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

Status check_sizes(const std::vector<ZipEntry>& entries) {
  std::uint64_t all = 0;
  std::uint64_t code = 0;
  for (const ZipEntry& entry : entries) {
    all += entry.bytes;
    if (is_code(entry.name)) code += entry.bytes;
  }
  if (all > file_bytes_max) {
    return fail(Errc::too_large,
                fmt::format("it has {} MiB once unpacked; {} are allowed", all >> 20, file_bytes_max >> 20));
  }
  if (code > code_bytes_max)
    return fail(Errc::too_large,
                fmt::format("it has {} MiB of code; {} are allowed", code >> 20, code_bytes_max >> 20));
  return {};
}

/// @param entries have the folder before their names, which LibTorch takes from the first; it is taken away.
Status check_names(std::vector<ZipEntry>& entries) {
  const std::string folder =
      entries.empty() ? "" : entries.front().name.substr(0, entries.front().name.find('/') + 1);
  if (folder.empty()) return fail(Errc::corrupt, "the archive's parts are in no folder");
  std::set<std::string> seen;
  for (ZipEntry& entry : entries) {
    if (entry.name.size() > name_bytes_max) {
      return fail(Errc::refused,
                  fmt::format("the name of one of its parts has {} bytes; {} are allowed: give its class or "
                              "module a shorter name ({}...)",
                              entry.name.size(), name_bytes_max, to_printable(entry.name.substr(0, 60))));
    }
    if (!entry.name.starts_with(folder))
      return fail(Errc::corrupt, "the archive's parts are in several folders");
    entry.name.erase(0, folder.size());
    if (!is_known(entry.name)) {
      return fail(Errc::refused, fmt::format("its part '{}' is none that torch.jit.save() writes: {}",
                                             to_printable(entry.name), how_to_write));
    }
    // LibTorch finds parts whatever the case of their letters.
    if (!seen.insert(in_small_letters(entry.name)).second)
      return fail(Errc::refused, fmt::format("it has its part '{}' twice", to_printable(entry.name)));
  }
  return {};
}

Status check_parts(const std::vector<ZipEntry>& entries) {
  const auto has = [&](auto&& is_it) { return std::ranges::any_of(entries, is_it, &ZipEntry::name); };
  if (!has(is_code)) {
    return fail(Errc::invalid,
                fmt::format("it holds tensors but no code, as torch.save() leaves it: {}", how_to_write));
  }
  for (const std::string_view needed : {"data.pkl", "constants.pkl"}) {
    if (!has([&](const std::string& name) { return name == needed; }))
      return fail(Errc::corrupt, fmt::format("it lacks its part '{}': {}", needed, how_to_write));
  }
  return {};
}

/// @param entries without their folder. @param reader LibTorch's own, which has to see the same parts.
Status check_code(const std::vector<ZipEntry>& entries, PyTorchStreamReader& reader) {
  if (!std::ranges::equal(entries, reader.getAllRecords(), {}, &ZipEntry::name))
    return fail(Errc::corrupt, "its directory and LibTorch name different parts");
  for (const ZipEntry& entry : entries) {
    if (!is_code(entry.name)) continue;
    const auto [data, size] = reader.getRecord(entry.name);
    const std::string_view code = text_of_record(data, size);
    for (const std::string_view method : {"__setstate__", "__getstate__"}) {
      if (code.find(method) != std::string_view::npos)
        return fail(Errc::refused, fmt::format("its code ({}) has {}, which runs while the file is loaded: "
                                               "leave that out of the model",
                                               to_printable(entry.name), method));
    }
  }
  return {};
}

}  // namespace

Status check_archive(ByteSpan file) {
  if (file.empty()) return fail(Errc::corrupt, "it is empty");
  if (file.size() > file_bytes_max) {
    return fail(Errc::too_large,
                fmt::format("it has {} MiB; {} are allowed", file.size() >> 20, file_bytes_max >> 20));
  }
  auto entries = read_zip_directory(file);
  if (!entries) return explain(entries.error().detail);
  // In the order in which one tells more than the next: what torch.save() leaves has no code.
  Status status = check_names(*entries);
  if (status) status = check_sizes(*entries);
  if (status) status = check_parts(*entries);
  if (!status) return status;
  try {
    PyTorchStreamReader reader(
        std::make_shared<caffe2::serialize::MemoryReadAdapter>(file.data(), static_cast<off_t>(file.size())));
    return check_code(*entries, reader);
  } catch (const c10::Error& error) {
    return explain(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return explain(error.what());
  }
}

}  // namespace rivulet::torchscript
