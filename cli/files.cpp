#include "cli/files.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "storage/file.h"

namespace rivulet::cli {

namespace fs = std::filesystem;

Error as_usage(Error error) {
  if (error.code == Errc::not_found) error.code = Errc::invalid;
  return error;
}

Result<SecretKey> load_key(const fs::path& file, const char* what) {
  auto key = SecretKey::load(file);
  if (key) return key;
  if (key.error().code != Errc::not_found) return fail_at(what, key.error());
  return fail(Errc::invalid,
              fmt::format("there is no {} at {}: 'rivulet-coordinator init' wrote it below D/offline", what,
                          file.string()));
}

Result<std::string> load_token(const fs::path& file) {
  struct stat info{};
  if (::stat(file.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return fail(Errc::permission, fmt::format("{} may be read by others: chmod 600 it", file.string()));
  }
  const auto bytes = read_file(file, 4096);
  if (!bytes && bytes.error().code == Errc::not_found) {
    return fail(
        Errc::invalid,
        fmt::format(
            "there is no {}: put the admin token there, which admin.token in the coordinator's folder "
            "holds",
            file.string()));
  }
  if (!bytes) return std::unexpected(as_usage(bytes.error()));
  std::string token(text_of(*bytes));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.empty()) return fail(Errc::invalid, fmt::format("{} holds no token", file.string()));
  return token;
}

Result<ScratchFolder> ScratchFolder::make() {
  std::error_code error;
  const fs::path parent = fs::temp_directory_path(error);
  if (error) return fail(Errc::invalid, "TMPDIR names no folder: " + error.message());
  std::string pattern = (parent / "rivulet-model-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return fail_errno("make a folder in", parent, errno);
  return ScratchFolder(pattern);
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;  // What is left in a temporary folder harms nobody.
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

}  // namespace rivulet::cli
