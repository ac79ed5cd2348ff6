#include "bench/fleet/plain_writing.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>

#include "storage/file.h"

namespace rivulet::bench {
namespace {

constexpr std::size_t piece_bytes = 1 << 20;

Status write_one(const SharedDelta& delta, const SharedDelta::Mark& mark, const std::filesystem::path& path) {
  const std::filesystem::path part = path.string() + ".part";
  const auto file = open_file(part, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return std::unexpected(file.error());
  for (std::uint64_t at = 0; at < delta.bytes(); at += piece_bytes) {
    if (Status status = write_at(*file, part, at, delta.read(mark, at, piece_bytes)); !status) return status;
  }
  if (::fdatasync(file->get()) != 0) return fail_errno("sync", part, errno);
  std::error_code error;
  std::filesystem::rename(part, path, error);
  if (error) return fail_errno("rename", part, error.value());
  return sync_folder(path.parent_path());
}

}  // namespace

Result<double> write_plainly(const SharedDelta& delta, std::uint32_t files,
                             const std::filesystem::path& folder) {
  if (Status status = make_folder(folder); !status) return std::unexpected(status.error());
  std::vector<SharedDelta::Mark> marks;
  for (std::uint32_t i = 0; i < files; ++i) marks.push_back(delta.mark(i));
  const auto begin = std::chrono::steady_clock::now();
  Status status;
  for (std::uint32_t i = 0; i < files && status; ++i)
    status = write_one(delta, marks[i], folder / std::to_string(i));
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  std::error_code ignored;  // Whoever made the folder above removes that too.
  std::filesystem::remove_all(folder, ignored);
  if (!status) return std::unexpected(status.error());
  return taken.count();
}

}  // namespace rivulet::bench
