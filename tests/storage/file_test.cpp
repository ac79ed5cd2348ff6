#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>

#include "storage/file.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
namespace fs = std::filesystem;

namespace {

void write_text(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST_CASE("the system's error numbers become what a caller can do about them", "[storage][file]") {
  CHECK(errc_of_errno(ENOSPC) == Errc::storage_full);
  CHECK(errc_of_errno(EDQUOT) == Errc::storage_full);
  CHECK(errc_of_errno(EACCES) == Errc::permission);
  CHECK(errc_of_errno(ENOENT) == Errc::not_found);
  CHECK(errc_of_errno(EIO) == Errc::storage);
  CHECK(errc_of_errno(EMFILE) == Errc::busy);
  CHECK(errc_of_errno(ENFILE) == Errc::busy);
  // /dev/full answers every write with ENOSPC (null(4)).
  const auto full = open_file("/dev/full", O_WRONLY);
  REQUIRE(full);
  const auto refused = write_at(*full, "/dev/full", 0, bytes_of("x"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::storage_full);
  CHECK(refused.error().detail.find("/dev/full") != std::string::npos);
}

TEST_CASE("a file is replaced whole, with the mode that was asked for", "[storage][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder.path / "key";
  write_text(folder.path / "key.new", "what an earlier crash left, and longer");
  REQUIRE(write_file_durably(path, bytes_of("first"), 0640));
  REQUIRE(write_file_durably(path, bytes_of("2nd")));
  CHECK(text_of(*read_file(path, 3)) == "2nd");
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK_FALSE(fs::exists(folder.path / "key.new"));
  CHECK(write_file_durably(folder.path / "absent" / "key", {}).error().code == Errc::not_found);
}

TEST_CASE("reading a file is bounded, and folders and absent files are told apart", "[storage][file]") {
  const TemporaryFolder folder;
  write_text(folder.path / "five", "12345");
  CHECK(read_file(folder.path / "five", 5));
  CHECK(read_file(folder.path / "five", 4).error().code == Errc::too_large);
  CHECK(read_file(folder.path / "none", 5).error().code == Errc::not_found);
  CHECK(read_file(folder.path, 5).error().code == Errc::invalid);
}

TEST_CASE("folders are made with those above them, and only where no file stands", "[storage][file]") {
  const TemporaryFolder folder;
  REQUIRE(make_folder(folder.path / "a" / "b" / "c"));
  CHECK(make_folder(folder.path / "a" / "b" / "c"));
  CHECK(fs::is_directory(folder.path / "a" / "b" / "c"));
  write_text(folder.path / "file", "");
  CHECK(make_folder(folder.path / "file").error().code == Errc::conflict);
  CHECK_FALSE(make_folder(folder.path / "file" / "below"));
  CHECK_FALSE(make_folder("/proc/none/below"));  // /proc is there, and takes no folder.
}

TEST_CASE("a folder is held by one process, and who asks in vain is told by which", "[storage][file]") {
  const TemporaryFolder folder;
  int ready[2];
  int finish[2];
  REQUIRE(::pipe(ready) == 0);
  REQUIRE(::pipe(finish) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(finish[1]);
    const auto lock = lock_folder(folder.path);
    char byte = lock ? 'y' : 'n';
    if (::write(ready[1], &byte, 1) != 1 || ::read(finish[0], &byte, 1) != 0) ::_exit(1);
    ::_exit(0);
  }
  char answer = 'n';
  REQUIRE(::read(ready[0], &answer, 1) == 1);
  REQUIRE(answer == 'y');
  const auto holder = folder_holder(folder.path);
  REQUIRE(holder.has_value());
  REQUIRE(holder->has_value());
  CHECK((*holder)->process == child);
  const auto refused = lock_folder(folder.path);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::conflict);
  CHECK(refused.error().detail == folder.path.string() + " is in use by another process (" +
                                      std::to_string(child) + "): stop it first");
  for (const int fd : {finish[0], finish[1], ready[0], ready[1]}) ::close(fd);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  // The number of who held it last stays in the file, and says nothing.
  CHECK_FALSE(folder_holder(folder.path).value().has_value());
  const auto mine = lock_folder(folder.path);
  REQUIRE(mine);
  CHECK(folder_holder(folder.path).value()->process == ::getpid());
}

TEST_CASE("to look who holds a folder keeps nobody from taking it", "[storage][file]") {
  const TemporaryFolder folder;
  CHECK_FALSE(folder_holder(folder.path).value().has_value());  // Nobody ever did.
  std::atomic<bool> stop = false;
  std::thread watcher([&] {
    while (!stop) std::ignore = folder_holder(folder.path);
  });
  int refused = 0;
  for (int i = 0; i < 2000; ++i) refused += lock_folder(folder.path) ? 0 : 1;
  stop = true;
  watcher.join();
  CHECK(refused == 0);
}

TEST_CASE("a folder's format is written once, and newer or foreign ones are refused", "[storage][file]") {
  const TemporaryFolder folder;
  CHECK(open_format(folder.path, "store", 3).value() == 3u);
  CHECK(text_of(*read_file(folder.path / "FORMAT", 100)) == "rivulet store 3\n");
  CHECK(open_format(folder.path, "store", 4).value() == 3u);

  const auto newer = open_format(folder.path, "store", 2);
  REQUIRE_FALSE(newer);
  CHECK(newer.error().code == Errc::unsupported);
  CHECK(newer.error().detail.find("says format 3, and this program reads formats up to 2") !=
        std::string::npos);

  CHECK(open_format(folder.path, "blobs", 3).error().code == Errc::corrupt);
  for (const char* text :
       {"", "rivulet store 0\n", "rivulet store 1", "rivulet store -1\n", "rivulet store 1x\n"}) {
    CAPTURE(text);
    write_text(folder.path / "FORMAT", text);
    CHECK(open_format(folder.path, "store", 3).error().code == Errc::corrupt);
  }
  fs::remove(folder.path / "FORMAT");
  write_text(folder.path / "data", "of unknown form");
  CHECK(open_format(folder.path, "store", 3).error().code == Errc::corrupt);
}
