#include "cli/safetensors.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "protocol/bytes.h"
#include "storage/file.h"

namespace rivulet::cli {

Status write_safetensors(const std::filesystem::path& file, const std::vector<NpyArray>& tensors,
                         const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = {{"__metadata__", metadata}};
  std::uint64_t at = 0;
  for (const NpyArray& tensor : tensors) {
    if (header.contains(tensor.name))
      return fail(Errc::invalid, fmt::format("the name {} stands for two tensors", tensor.name));
    const std::uint64_t end = at + tensor.values.size_bytes();
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // So that the numbers lie where a mapping can use them.
  Bytes out;
  out.reserve(sizeof(std::uint64_t) + text.size() + at);
  append_le(out, static_cast<std::uint64_t>(text.size()));
  const ByteSpan head = bytes_of(text);
  out.insert(out.end(), head.begin(), head.end());
  for (const NpyArray& tensor : tensors) {
    const ByteSpan data = std::as_bytes(tensor.values);
    out.insert(out.end(), data.begin(), data.end());
  }
  return write_file_durably(file, out);
}

}  // namespace rivulet::cli
