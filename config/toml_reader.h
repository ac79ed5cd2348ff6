#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace rivulet {

/// Strict reading of a TOML file. A getter names a key, its default and its bounds; it gives the
/// default if the key is absent and also if it is wrong, and remembers what was wrong. finish() then
/// reports the first error or a key that no getter asked for, with file, key and line. So a caller
/// reads everything first, in plain assignments, and checks once.
///
/// A reader is a section of the file: table("round") is [round]. All sections share one document and
/// may be copied; they are not thread-safe.
class TomlReader {
 public:
  static constexpr std::int64_t integer_max = std::numeric_limits<std::int64_t>::max();
  static constexpr double number_max = std::numeric_limits<double>::max();

  /// @param source stands in error messages, and relative paths are relative to its folder.
  /// @return invalid, with the line and column, if it is not TOML.
  static Result<TomlReader> parse(std::string_view text, const std::filesystem::path& source);
  /// @return not_found, storage, too_large (over 1 MiB), or as parse().
  static Result<TomlReader> read_file(const std::filesystem::path& file);

  /// Replaces a value, as `--set round.count=50` on a command line asks. `value` is TOML; what is not
  /// is taken as text, so that no quotes are needed. To be called before the sections are read.
  /// @param dotted_key from the root; missing sections are made. @return invalid.
  Status set(std::string_view dotted_key, std::string_view value);

  /// The section under `key`; an absent one has defaults only.
  TomlReader table(std::string_view key);
  /// The sections of an array of tables, [[key]]; none if it is absent.
  std::vector<TomlReader> tables(std::string_view key);

  /// Whether the key is in the file; does not count as reading it.
  [[nodiscard]] bool has(std::string_view key) const;

  bool flag(std::string_view key, bool otherwise);
  std::int64_t integer(std::string_view key, std::int64_t otherwise, std::int64_t min = 0,
                       std::int64_t max = integer_max);
  /// Finite; a whole number will do.
  double number(std::string_view key, double otherwise, double min = -number_max, double max = number_max);
  std::string text(std::string_view key, std::string_view otherwise);
  /// One of `allowed`.
  std::string choice(std::string_view key, std::string_view otherwise,
                     const std::vector<std::string>& allowed);
  /// Like "90s", "15m", "12h" or "365d" (parse_duration).
  std::chrono::seconds duration(std::string_view key, std::chrono::seconds otherwise,
                                std::chrono::seconds min = std::chrono::seconds{0});
  /// A path; a relative one is taken from the file's folder. Empty only if `otherwise` is.
  std::filesystem::path path(std::string_view key, const std::filesystem::path& otherwise);
  std::vector<std::int64_t> integers(std::string_view key, std::vector<std::int64_t> otherwise,
                                     std::int64_t min = 0, std::int64_t max = integer_max);
  std::vector<double> numbers(std::string_view key, std::vector<double> otherwise, double min = -number_max,
                              double max = number_max);
  std::vector<std::string> texts(std::string_view key, std::vector<std::string> otherwise);

  /// Records that this key must be in the file, if it is not. @return has(key).
  bool require(std::string_view key);
  /// Records that the key's value is wrong beside others; `why` reads on after "key ".
  void reject(std::string_view key, const std::string& why);

  /// The first error of the whole document, invalid: a wrong value, else an unknown key, else a
  /// missing one.
  [[nodiscard]] Status finish() const;
  /// "file:line: section.key", for errors found later, e.g. in a file that the key names.
  [[nodiscard]] std::string where(std::string_view key) const;

 private:
  struct Document;
  TomlReader(std::shared_ptr<Document> document, std::size_t section);

  // Shared by all sections, so that one finish() sees what each of them read.
  std::shared_ptr<Document> document_;
  std::size_t section_ = 0;
};

}  // namespace rivulet
