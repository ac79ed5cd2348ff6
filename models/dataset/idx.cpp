#include "models/dataset/idx.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <utility>

#include "protocol/bytes.h"

namespace rivulet {
namespace {

constexpr std::size_t rank_max = 8;

enum class Type : std::uint8_t { unsigned_byte = 0x08, signed_short = 0x0b };

/// One IDX file, read sample by sample.
class IdxFile {
 public:
  IdxFile(std::unique_ptr<ByteSource> source, std::string name)
      : source_(std::move(source)), name_(std::move(name)) {}

  Status read_header() {
    std::array<std::byte, 4> magic{};
    if (const Status read = fill(magic, "the header"); !read) return read;
    const auto rank = std::to_integer<std::size_t>(magic[3]);
    if (magic[0] != std::byte{0} || magic[1] != std::byte{0} || rank == 0 || rank > rank_max) {
      return fail(Errc::corrupt,
                  fmt::format("{}: is not IDX: it begins with the bytes {}", name_, to_hex(magic)));
    }
    type_ = static_cast<Type>(magic[2]);
    if (type_ != Type::unsigned_byte && type_ != Type::signed_short) {
      return fail(Errc::unsupported,
                  fmt::format("{}: IDX of the type 0x{}; unsigned bytes (08) and signed 16-bit (0b) "
                              "can be read",
                              name_, to_hex(ByteSpan(magic).subspan(2, 1))));
    }
    std::uint64_t numbers = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      std::array<std::byte, 4> bytes{};
      if (const Status read = fill(bytes, "the header"); !read) return read;
      const std::uint32_t dimension = __builtin_bswap32(load_le<std::uint32_t>(bytes));
      if (i == 0) {
        count_ = dimension;
        continue;
      }
      if (dimension == 0 || dimension > idx_sample_numbers_max / numbers) {
        return fail(Errc::corrupt, fmt::format("{}: a sample of {} × {} numbers; 1 to {} are allowed", name_,
                                               numbers, dimension, idx_sample_numbers_max));
      }
      numbers *= dimension;
      shape_.push_back(dimension);
    }
    if (rank == 1) shape_.push_back(1);
    numbers_ = static_cast<std::size_t>(numbers);
    return {};
  }

  /// @param out  [numbers()].
  Status read_sample(std::uint64_t index, float scale, std::vector<float>& out) {
    const std::size_t width = type_ == Type::unsigned_byte ? 1 : 2;
    buffer_.resize(numbers_ * width);
    if (const Status read = fill(buffer_, fmt::format("sample {} of {}", index, count_)); !read) return read;
    out.resize(numbers_);
    for (std::size_t i = 0; i < numbers_; ++i) {
      if (width == 1) {
        out[i] = static_cast<float>(std::to_integer<std::uint8_t>(buffer_[i])) / scale;
      } else {
        const std::uint16_t bits = __builtin_bswap16(load_le<std::uint16_t>(buffer_, 2 * i));
        out[i] = static_cast<float>(static_cast<std::int16_t>(bits));
      }
    }
    return {};
  }

  Status read_end() {
    std::array<std::byte, 1> extra{};
    const auto got = source_->read(extra);
    if (!got) return std::unexpected(got.error());
    if (*got == 0) return {};
    return fail(Errc::corrupt, fmt::format("{}: something follows its {} samples", name_, count_));
  }

  [[nodiscard]] Type type() const { return type_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::size_t numbers() const { return numbers_; }
  [[nodiscard]] const std::vector<std::int64_t>& shape() const { return shape_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  Status fill(std::span<std::byte> out, const std::string& what) {
    const auto got = source_->read(out);
    if (!got) return std::unexpected(got.error());
    if (*got == out.size()) return {};
    return fail(Errc::corrupt, fmt::format("{}: ends within {}", name_, what));
  }

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  Type type_ = Type::unsigned_byte;
  std::uint64_t count_ = 0;
  std::size_t numbers_ = 0;
  std::vector<std::int64_t> shape_;
  Bytes buffer_;
};

class IdxReader final : public SampleReader {
 public:
  IdxReader(IdxFile samples, std::optional<IdxFile> labels, float scale)
      : samples_(std::move(samples)), labels_(std::move(labels)), scale_(scale) {}

  Result<std::optional<SampleEntry>> next() override {
    if (index_ == samples_.count()) {
      if (const Status ended = samples_.read_end(); !ended) return std::unexpected(ended.error());
      if (!labels_) return std::nullopt;
      if (const Status ended = labels_->read_end(); !ended) return std::unexpected(ended.error());
      return std::nullopt;
    }
    RawSample sample;
    sample.position = index_;
    if (const Status read = samples_.read_sample(index_, scale_, sample.inputs); !read) {
      return std::unexpected(read.error());
    }
    if (labels_) {
      std::vector<float> label;
      if (const Status read = labels_->read_sample(index_, 1.0F, label); !read)
        return std::unexpected(read.error());
      sample.label = std::to_string(static_cast<int>(label.front()));
    }
    ++index_;
    return sample;
  }

  [[nodiscard]] const std::vector<std::int64_t>& shape() const override { return samples_.shape(); }
  [[nodiscard]] const std::string& source() const override { return samples_.name(); }

 private:
  IdxFile samples_;
  std::optional<IdxFile> labels_;
  float scale_;
  std::uint64_t index_ = 0;
};

}  // namespace

Result<std::unique_ptr<SampleReader>> make_idx_reader(std::unique_ptr<ByteSource> source, std::string name,
                                                      std::unique_ptr<ByteSource> labels,
                                                      std::string labels_name, const SampleOptions& options) {
  IdxFile samples(std::move(source), std::move(name));
  if (const Status read = samples.read_header(); !read) return std::unexpected(read.error());
  std::optional<IdxFile> label_file;
  if (labels) {
    label_file.emplace(std::move(labels), std::move(labels_name));
    if (const Status read = label_file->read_header(); !read) return std::unexpected(read.error());
    if (label_file->numbers() != 1 || label_file->type() != Type::unsigned_byte) {
      return fail(Errc::corrupt, label_file->name() + ": labels are IDX of one dimension and unsigned bytes");
    }
    if (label_file->count() != samples.count()) {
      return fail(Errc::invalid, fmt::format("{}: {} labels for the {} samples of {}", label_file->name(),
                                             label_file->count(), samples.count(), samples.name()));
    }
  }
  return std::make_unique<IdxReader>(std::move(samples), std::move(label_file),
                                     options.scale_bytes ? 255.0F : 1.0F);
}

std::optional<std::filesystem::path> idx_labels_beside(const std::filesystem::path& images) {
  std::string name = images.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  constexpr std::string_view images_end = "-images-idx3-ubyte";
  if (!name.ends_with(images_end)) return std::nullopt;
  const std::string labels = name.substr(0, name.size() - images_end.size()) + "-labels-idx1-ubyte";
  for (const char* extension : {"", ".gz"}) {
    std::filesystem::path candidate = images.parent_path() / (labels + extension);
    std::error_code ignored;  // What can't be looked at is not there.
    if (std::filesystem::is_regular_file(candidate, ignored)) return candidate;
  }
  return std::nullopt;
}

}  // namespace rivulet
