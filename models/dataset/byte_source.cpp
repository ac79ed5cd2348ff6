#include "models/dataset/byte_source.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr std::size_t buffer_bytes = 64 << 10;

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(ByteSpan bytes) : rest_(bytes) {}

  Result<std::size_t> read(std::span<std::byte> out) override {
    const ByteSpan part = rest_.first(std::min(out.size(), rest_.size()));
    std::ranges::copy(part, out.begin());
    rest_ = rest_.subspan(part.size());
    return part.size();
  }

 private:
  ByteSpan rest_;
};

class DescriptorSource final : public ByteSource {
 public:
  DescriptorSource(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  ~DescriptorSource() override {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
  }
  DescriptorSource(const DescriptorSource&) = delete;
  DescriptorSource& operator=(const DescriptorSource&) = delete;

  Result<std::size_t> read(std::span<std::byte> out) override {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t got = ::read(descriptor_, out.data() + done, out.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return fail(Errc::storage, fmt::format("{}: {}", name_, std::generic_category().message(errno)));
      }
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

 private:
  int descriptor_;
  std::string name_;
};

/// Passes bytes on, or unpacks them if they begin with gzip's magic number.
class GunzipSource final : public ByteSource {
 public:
  GunzipSource(std::unique_ptr<ByteSource> source, std::string name)
      : source_(std::move(source)), name_(std::move(name)) {}
  ~GunzipSource() override {
    if (mode_ == Mode::gzip) ::inflateEnd(&stream_);
  }
  GunzipSource(const GunzipSource&) = delete;
  GunzipSource& operator=(const GunzipSource&) = delete;

  Result<std::size_t> read(std::span<std::byte> out) override {
    if (mode_ == Mode::unknown) {
      if (const Status refilled = refill(); !refilled) return std::unexpected(refilled.error());
      const bool gzip = input_.size() >= 2 && input_[0] == std::byte{0x1f} && input_[1] == std::byte{0x8b};
      mode_ = gzip ? Mode::gzip : Mode::plain;
      // 15: the largest window; + 16: gzip framing with its check of length and CRC.
      if (gzip) RIVULET_ASSERT(::inflateInit2(&stream_, 15 + 16) == Z_OK);
    }
    return mode_ == Mode::gzip ? unpack(out) : pass(out);
  }

 private:
  enum class Mode { unknown, plain, gzip };

  Status refill() {
    const auto got = source_->read(buffer_);
    if (!got) return std::unexpected(got.error());
    input_ = ByteSpan(buffer_).first(*got);
    return {};
  }

  Result<std::size_t> pass(std::span<std::byte> out) {
    const ByteSpan part = input_.first(std::min(out.size(), input_.size()));
    std::ranges::copy(part, out.begin());
    input_ = input_.subspan(part.size());
    if (part.size() == out.size()) return part.size();
    const auto more = source_->read(out.subspan(part.size()));
    if (!more) return more;
    return part.size() + *more;
  }

  Result<std::size_t> unpack(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size()) {
      if (input_.empty()) {
        if (const Status refilled = refill(); !refilled) return std::unexpected(refilled.error());
      }
      if (member_ended_) {
        if (input_.empty()) break;
        if (const Status begun = next_member(); !begun) return std::unexpected(begun.error());
      }
      if (input_.empty())
        return fail(Errc::corrupt, name_ + ": the gzip data ends early: fetch the file again");
      const std::size_t room = std::min<std::size_t>(out.size() - done, 1 << 30);
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(input_.data()));
      stream_.avail_in = static_cast<uInt>(input_.size());
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      stream_.avail_out = static_cast<uInt>(room);
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      input_ = input_.last(stream_.avail_in);
      done += room - stream_.avail_out;
      if (status == Z_STREAM_END) {
        member_ended_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        return fail(Errc::corrupt, fmt::format("{}: damaged gzip data: {}", name_,
                                               stream_.msg != nullptr ? stream_.msg : ::zError(status)));
      }
    }
    return done;
  }

  Status next_member() {
    if (input_[0] != std::byte{0x1f}) return fail(Errc::corrupt, name_ + ": something follows the gzip data");
    RIVULET_ASSERT(::inflateReset(&stream_) == Z_OK);
    member_ended_ = false;
    return {};
  }

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  Mode mode_ = Mode::unknown;
  bool member_ended_ = false;
  z_stream stream_{};
  std::array<std::byte, buffer_bytes> buffer_{};
  ByteSpan input_;  // What of buffer_ is not used yet.
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_byte_source(const std::filesystem::path& file) {
  const bool standard_input = file == "-";
  const std::string name = standard_input ? "standard input" : file.string();
  const int descriptor = standard_input ? STDIN_FILENO : ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const Errc code = errno == ENOENT ? Errc::not_found : Errc::storage;
    return fail(code, fmt::format("{}: {}", name, std::generic_category().message(errno)));
  }
  auto plain = std::make_unique<DescriptorSource>(descriptor, name);
  struct stat status{};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    return fail(Errc::storage, name + ": is a folder; name a file");
  }
  return std::make_unique<GunzipSource>(std::move(plain), name);
}

std::unique_ptr<ByteSource> make_memory_source(ByteSpan bytes, std::string name) {
  return std::make_unique<GunzipSource>(std::make_unique<MemorySource>(bytes), std::move(name));
}

}  // namespace rivulet
