#include "models/dataset/csv.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace rivulet {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Foreign text as it may stand in a log: short, and printable ASCII only.
std::string shown(std::string_view text) {
  constexpr std::size_t characters_max = 32;
  std::string out;
  for (const char c : text.substr(0, characters_max)) out += c >= ' ' && c <= '~' ? c : '?';
  return text.size() > characters_max ? out + "…" : out;
}

/// Splits a source into lines and counts them.
class Lines {
 public:
  explicit Lines(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  enum class Kind { line, too_long, end };

  /// `line` gets the next one without its end; it is cut off at the limit if it is too long.
  Result<Kind> next(std::string& line) {
    line.clear();
    ++number_;
    bool too_long = false;
    while (true) {
      if (at_ == size_) {
        const auto got = source_->read(std::as_writable_bytes(std::span(buffer_)));
        if (!got) return std::unexpected(got.error());
        at_ = 0;
        size_ = *got;
        if (size_ == 0) return too_long ? Kind::too_long : line.empty() ? Kind::end : finish(line);
      }
      const std::string_view rest(buffer_.data() + at_, size_ - at_);
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      too_long = too_long || line.size() + end > csv_line_bytes_max;
      if (!too_long) line.append(rest.substr(0, end));
      at_ += end;
      if (end == rest.size()) continue;
      ++at_;
      return too_long ? Kind::too_long : finish(line);
    }
  }

  [[nodiscard]] std::uint64_t number() const { return number_; }

 private:
  static Kind finish(std::string& line) {
    if (line.ends_with('\r')) line.pop_back();
    return Kind::line;
  }

  std::unique_ptr<ByteSource> source_;
  std::array<char, 64 << 10> buffer_{};
  std::size_t at_ = 0;
  std::size_t size_ = 0;
  std::uint64_t number_ = 0;
};

struct BadCell {
  std::uint64_t column;
  std::string reason;
};

/// Cells without their quotes. @return what is wrong with the first bad one.
std::optional<BadCell> split(std::string_view line, std::vector<std::string>& cells) {
  cells.clear();
  while (true) {
    std::string& cell = cells.emplace_back();
    if (line.starts_with('"')) {
      line.remove_prefix(1);
      while (true) {
        const std::size_t quote = line.find('"');
        if (quote == line.npos) return BadCell{cells.size(), "the quote is not closed in this line"};
        cell += line.substr(0, quote);
        line.remove_prefix(quote + 1);
        if (!line.starts_with('"')) break;
        cell += '"';
        line.remove_prefix(1);
      }
      if (!line.empty() && line.front() != ',') return BadCell{cells.size(), "text follows a closing quote"};
    } else {
      const std::size_t comma = std::min(line.find(','), line.size());
      cell = trimmed(line.substr(0, comma));
      line.remove_prefix(comma);
    }
    if (line.empty()) return std::nullopt;
    line.remove_prefix(1);
  }
}

enum class Role : std::uint8_t { input, label, group, ignored };

std::optional<std::size_t> as_index(const std::string& column) {
  std::size_t index = 0;
  const auto parsed = std::from_chars(column.data(), column.data() + column.size(), index);
  if (parsed.ec != std::errc() || parsed.ptr != column.data() + column.size() || index == 0)
    return std::nullopt;
  return index - 1;
}

class CsvReader final : public SampleReader {
 public:
  CsvReader(std::unique_ptr<ByteSource> source, std::string name)
      : lines_(std::move(source)), name_(std::move(name)) {}

  /// Reads the first line, and with it what the columns are.
  Status begin(const SampleOptions& options) {
    const auto first = next_line();
    if (!first) return std::unexpected(first.error());
    if (*first == Lines::Kind::end) {
      ended_ = true;
      return {};
    }
    if (*first == Lines::Kind::too_long)
      return wrong("line 1 is longer than a CSV line may be: is this CSV?");
    if (const auto bad = split(line_, cells_)) {
      return wrong(fmt::format("line {}, column {}: {}", lines_.number(), bad->column, bad->reason));
    }
    // Whether "2" is the second column or one of that name is clear once the line is known to be a header.
    pending_ = assign_roles(options, false).has_value() && inputs_are_numbers() && !names_column(options);
    if (!pending_) {
      if (const Status assigned = assign_roles(options, true); !assigned) return assigned;
    }
    shape_ = {static_cast<std::int64_t>(std::ranges::count(roles_, Role::input))};
    return {};
  }

  Result<std::optional<SampleEntry>> next() override {
    if (ended_) return std::nullopt;
    if (std::exchange(pending_, false)) return entry();
    const auto kind = next_line();
    if (!kind) return std::unexpected(kind.error());
    if (*kind == Lines::Kind::end) {
      ended_ = true;
      return std::nullopt;
    }
    if (*kind == Lines::Kind::too_long) {
      return refuse(0, fmt::format("the line is longer than {} bytes", csv_line_bytes_max));
    }
    if (auto bad = split(line_, cells_)) return refuse(bad->column, std::move(bad->reason));
    return entry();
  }

  [[nodiscard]] const std::vector<std::int64_t>& shape() const override { return shape_; }
  [[nodiscard]] const std::string& source() const override { return name_; }

 private:
  /// Whether a cell of the first line is a column's name in the options.
  [[nodiscard]] bool names_column(const SampleOptions& options) const {
    std::vector<std::string> columns = options.ignore;
    columns.push_back(options.label);
    columns.push_back(options.group);
    return std::ranges::any_of(columns, [&](const std::string& column) {
      return !column.empty() && !as_index(column) && std::ranges::count(cells_, column) > 0;
    });
  }

  /// Not finite counts, so that a column of NaN is refused by row instead of taken for a header.
  static bool is_number(std::string_view text) {
    text = trimmed(text);
    if (text.starts_with('+')) text.remove_prefix(1);
    double value = 0.0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    return parsed.ec != std::errc::invalid_argument && parsed.ptr == text.data() + text.size();
  }

  [[nodiscard]] Status wrong(const std::string& why) const { return fail(Errc::invalid, name_ + ": " + why); }

  /// The next line that is not empty.
  Result<Lines::Kind> next_line() {
    while (true) {
      const auto kind = lines_.next(line_);
      if (!kind) return kind;
      if (lines_.number() == 1 && line_.starts_with("\xef\xbb\xbf")) line_.erase(0, 3);
      if (*kind != Lines::Kind::line || !trimmed(line_).empty()) return kind;
    }
  }

  /// @param header  whether the cells are names, and so looked up first.
  Status assign_roles(const SampleOptions& options, bool header) {
    roles_.assign(cells_.size(), Role::input);
    const auto assign = [&](const std::string& column, Role role, const char* what) -> Status {
      const auto named = header ? std::ranges::count(cells_, column) : 0;
      if (named > 1) return wrong(fmt::format("{} columns are named '{}'", named, column));
      std::size_t index = as_index(column).value_or(cells_.size());
      if (named == 1) index = static_cast<std::size_t>(std::ranges::find(cells_, column) - cells_.begin());
      if (index >= cells_.size()) {
        return wrong(
            fmt::format("there is no column '{}' for the {} among its {}", column, what, cells_.size()));
      }
      if (roles_[index] != Role::input)
        return wrong(fmt::format("column '{}' is named for two purposes", column));
      roles_[index] = role;
      return {};
    };
    for (const std::string& column : options.ignore) {
      if (const Status done = assign(column, Role::ignored, "columns to ignore"); !done) return done;
    }
    if (!options.group.empty()) {
      if (const Status done = assign(options.group, Role::group, "group"); !done) return done;
    }
    if (!options.label.empty()) return assign(options.label, Role::label, "label");
    return {};
  }

  [[nodiscard]] bool inputs_are_numbers() const {
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      if (roles_[i] == Role::input && !is_number(cells_[i])) return false;
    }
    return true;
  }

  [[nodiscard]] SampleEntry refuse(std::uint64_t column, std::string reason) const {
    return RefusedSample{lines_.number(), column, std::move(reason)};
  }

  [[nodiscard]] SampleEntry entry() const {
    if (cells_.size() != roles_.size()) {
      return refuse(0, fmt::format("{} cells instead of {}", cells_.size(), roles_.size()));
    }
    RawSample sample;
    sample.position = lines_.number();
    sample.inputs.reserve(static_cast<std::size_t>(shape_.front()));
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const std::string_view text = trimmed(cells_[i]);
      if (roles_[i] == Role::input) {
        const auto value = parse_float(text);
        if (!value) return refuse(i + 1, value.error().detail);
        sample.inputs.push_back(*value);
      } else if (roles_[i] != Role::ignored && !text.empty()) {
        (roles_[i] == Role::label ? sample.label : sample.group) = std::string(text);
      }
    }
    return sample;
  }

  Lines lines_;
  std::string name_;
  std::string line_;
  std::vector<std::string> cells_;
  std::vector<Role> roles_;
  std::vector<std::int64_t> shape_{0};
  bool pending_ = false;  // cells_ holds the first line, which is a sample.
  bool ended_ = false;
};

}  // namespace

Result<float> parse_float(std::string_view text) {
  text = trimmed(text);
  const std::string_view whole = text;
  if (text.empty()) return fail(Errc::invalid, "the cell is empty");
  // from_chars knows no plus sign; what follows one must not be another sign.
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  double value = 0.0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc::invalid_argument || parsed.ptr != text.data() + text.size()) {
    return fail(Errc::invalid, fmt::format("'{}' is not a number", shown(whole)));
  }
  if (parsed.ec != std::errc() || !(std::fabs(value) <= std::numeric_limits<float>::max())) {
    return fail(Errc::invalid, fmt::format("'{}' is not a finite float32", shown(whole)));
  }
  return static_cast<float>(value);
}

Result<std::unique_ptr<SampleReader>> make_csv_reader(std::unique_ptr<ByteSource> source, std::string name,
                                                      const SampleOptions& options) {
  auto reader = std::make_unique<CsvReader>(std::move(source), std::move(name));
  if (const Status begun = reader->begin(options); !begun) return std::unexpected(begun.error());
  return reader;
}

}  // namespace rivulet
