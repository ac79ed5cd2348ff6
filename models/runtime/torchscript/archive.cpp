#include "models/runtime/torchscript/archive.h"

#include <caffe2/serialize/in_memory_adapter.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "models/runtime/model_impl.h"
#include "models/runtime/runtime.h"

namespace rivulet::torchscript {
namespace {

using caffe2::serialize::kMaxSupportedFileFormatVersion;
using caffe2::serialize::PyTorchStreamReader;

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

Status check_records(PyTorchStreamReader& reader) {
  const std::vector<std::string> names = reader.getAllRecords();
  const auto is_code = [](const std::string& name) {
    return name.starts_with("code/") && name.ends_with(".py");
  };
  if (std::ranges::none_of(names, is_code)) {
    return fail(Errc::invalid,
                fmt::format("it holds tensors but no code, as torch.save() leaves it: {}", how_to_write));
  }
  for (const char* needed : {"data.pkl", "constants.pkl"}) {
    if (!reader.hasRecord(needed))
      return fail(Errc::corrupt, fmt::format("it lacks its part '{}': {}", needed, how_to_write));
  }
  for (const std::string& name : names) {
    if (!is_code(name)) continue;
    const auto [data, size] = reader.getRecord(name);
    const std::string_view code = text_of_record(data, size);
    for (const std::string_view method : {"__setstate__", "__getstate__"}) {
      if (code.find(method) != std::string_view::npos)
        return fail(Errc::refused, fmt::format("its code ({}) has {}, which runs while the file is loaded: "
                                               "leave that out of the model",
                                               to_printable(name), method));
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
  try {
    PyTorchStreamReader reader(
        std::make_shared<caffe2::serialize::MemoryReadAdapter>(file.data(), static_cast<off_t>(file.size())));
    return check_records(reader);
  } catch (const c10::Error& error) {
    return explain(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return explain(error.what());
  }
}

}  // namespace rivulet::torchscript
