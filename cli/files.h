#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "protocol/keys.h"
#include "protocol/result.h"

namespace rivulet::cli {

/// An error about a file that the command line names: that it is missing is wrong usage.
Error as_usage(Error error);

/// @param what "release key", for the error; D/offline/… is where init writes it.
Result<SecretKey> load_key(const std::filesystem::path& file, const char* what);

/// The admin token of a file, without the line's end. @return permission if others may touch the file.
Result<std::string> load_token(const std::filesystem::path& file);

/// A new folder that goes with the object.
class ScratchFolder {
 public:
  /// Below TMPDIR, with mode 0700. @return what mkdtemp(3) fails with.
  static Result<ScratchFolder> make();
  ~ScratchFolder();
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace rivulet::cli
