#include "protocol/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr std::size_t seed_bytes = crypto_sign_SEEDBYTES;
constexpr std::size_t key_file_bytes = seed_bytes * 2 + 1;

void start_sodium() {
  static const int started = sodium_init();
  RIVULET_ASSERT(started >= 0);
}

const unsigned char* raw(ByteSpan bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

std::byte* guarded(std::size_t size) {
  start_sodium();
  void* memory = sodium_malloc(size);
  RIVULET_ASSERT(memory != nullptr);
  return static_cast<std::byte*>(memory);
}

struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
};

std::string reason() { return std::strerror(errno); }

std::unexpected<Error> cannot(const char* what, const std::filesystem::path& file) {
  return fail(errno == ENOSPC || errno == EDQUOT ? Errc::storage_full : Errc::storage,
              std::string("cannot ") + what + " key file " + file.string() + ": " + reason());
}

Status write_and_sync(const std::string& path, ByteSpan text) {
  const File file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (file.descriptor < 0) return cannot("create", path);
  const ssize_t written = ::write(file.descriptor, text.data(), text.size());
  if (written >= 0 && written != static_cast<ssize_t>(text.size())) errno = ENOSPC;
  if (written != static_cast<ssize_t>(text.size()) || ::fsync(file.descriptor) != 0)
    return cannot("write", path);
  return {};
}

/// Renames, unless the name is taken. @return false with errno set.
bool give_unused_name(const std::string& from, const std::filesystem::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  // A network's file system may not know it; all of those know links, which never replace either.
  if (::link(from.c_str(), to.c_str()) != 0) return false;
  ::unlink(from.c_str());  // Best effort: the next save of this key removes it.
  return true;
}

/// @return false with errno set.
bool sync_folder_of(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const File file{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  return file.descriptor >= 0 && ::fsync(file.descriptor) == 0;
}

}  // namespace

void SecretKey::Wipe::operator()(std::byte* memory) const { sodium_free(memory); }

SecretKey::SecretKey(std::unique_ptr<std::byte[], Wipe> secret) : secret_(std::move(secret)) {
  std::memcpy(public_key_.bytes.data(), secret_.get() + seed_bytes, PublicKey::size);
}

SecretKey SecretKey::generate() {
  std::unique_ptr<std::byte[], Wipe> secret(guarded(crypto_sign_SECRETKEYBYTES));
  PublicKey ignored;
  crypto_sign_keypair(raw(ignored.bytes.data()), raw(secret.get()));
  return SecretKey(std::move(secret));
}

SecretKey SecretKey::from_seed(std::span<const std::byte, 32> seed) {
  std::unique_ptr<std::byte[], Wipe> secret(guarded(crypto_sign_SECRETKEYBYTES));
  PublicKey ignored;
  crypto_sign_seed_keypair(raw(ignored.bytes.data()), raw(secret.get()), raw(seed));
  return SecretKey(std::move(secret));
}

Result<SecretKey> SecretKey::load(const std::filesystem::path& path) {
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0) {
    return fail(errno == ENOENT ? Errc::not_found : Errc::permission,
                "key file " + path.string() + ": " + reason());
  }
  struct stat info{};
  if (::fstat(file.descriptor, &info) != 0) return fail(Errc::storage, path.string() + ": " + reason());
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(Errc::permission,
                "key file " + path.string() + " can be touched by others than its owner: chmod 600 it");
  }
  std::unique_ptr<std::byte[], Wipe> text(guarded(key_file_bytes));
  const ssize_t size = ::read(file.descriptor, text.get(), key_file_bytes);
  std::unique_ptr<std::byte[], Wipe> seed(guarded(seed_bytes));
  std::size_t decoded = 0;
  const bool whole = size == static_cast<ssize_t>(key_file_bytes) && info.st_size == size &&
                     text[key_file_bytes - 1] == std::byte{'\n'};
  if (!whole ||
      sodium_hex2bin(raw(seed.get()), seed_bytes, reinterpret_cast<const char*>(text.get()), seed_bytes * 2,
                     nullptr, &decoded, nullptr) != 0 ||
      decoded != seed_bytes) {
    return fail(Errc::corrupt,
                "key file " + path.string() + " does not hold 64 hexadecimal digits and a line feed");
  }
  return from_seed(std::span<const std::byte, 32>(seed.get(), seed_bytes));
}

Status SecretKey::save(const std::filesystem::path& path) const {
  std::unique_ptr<std::byte[], Wipe> text(guarded(key_file_bytes + 1));
  sodium_bin2hex(reinterpret_cast<char*>(text.get()), key_file_bytes + 1, raw(secret_.get()), seed_bytes);
  text[key_file_bytes - 1] = std::byte{'\n'};
  const std::string temporary = path.string() + ".new";
  ::unlink(temporary.c_str());  // What a crash left there was never a key; whatever its mode, it goes.
  Status status = write_and_sync(temporary, {text.get(), key_file_bytes});
  if (status && !give_unused_name(temporary, path)) {
    status = errno == EEXIST ? fail(Errc::conflict, "key file " + path.string() + " exists already")
                             : cannot("name", path);
  }
  if (!status) {
    ::unlink(temporary.c_str());  // Best effort: the next save removes it.
    return status;
  }
  if (sync_folder_of(path)) return {};
  const auto error = cannot("sync the folder of", path);
  ::unlink(path.c_str());  // Nobody knows whether the name would survive a crash: it was never promised.
  return error;
}

Signature SecretKey::sign(ByteSpan message) const {
  Signature signature;
  crypto_sign_detached(raw(signature.bytes.data()), nullptr, raw(message), message.size(),
                       raw(secret_.get()));
  return signature;
}

std::span<const std::byte, 32> SecretKey::seed() const {
  return std::span<const std::byte, 32>(secret_.get(), seed_bytes);
}

bool verify(const PublicKey& key, ByteSpan message, const Signature& signature) {
  start_sodium();
  return crypto_sign_verify_detached(raw(signature.span()), raw(message), message.size(), raw(key.span())) ==
         0;
}

Bytes random_bytes(std::size_t size) {
  start_sodium();
  Bytes bytes(size);
  randombytes_buf(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace rivulet
