#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

/// What people read on a terminal.
namespace rivulet::cli {

/// Columns under a heading, as wide as their widest cell, two blanks apart.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  /// @param cells one a column.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// A line for the heading and each row. What could steer a terminal is replaced.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// Bytes below 32 and 127 become '?'. Names, tags and reasons come from elsewhere.
std::string printable(std::string_view text);
/// E.g. "512 B", "19.2 kB", "1.7 MB": powers of 1000.
std::string size_text(std::uint64_t bytes);
/// Four decimals; "-" for null.
std::string fraction_text(const nlohmann::json& value);
/// "2026-11-22 10:00:00" of "2026-11-22T10:00:00.000Z"; "-" for the year 1970, which means never.
std::string time_text(const std::string& rfc3339);
/// So many digits of a key or id tell it from others on a screen.
inline constexpr std::size_t short_digits = 16;
/// The active release of a coordinator's status: its name, its id and when it expires, or that it has
/// expired.
/// @param release null: there is none.
std::string release_text(const nlohmann::json& release);
/// How nodes run a variant: "float", "static", "static, 2 modules in float", "dynamic", or "own" where they
/// find its ranges themselves.
/// @param variant of a version as the coordinator shows it.
std::string kernels_text(const nlohmann::json& variant);
/// What of a version stays in float, and what of its release was not published; a line each, or nothing.
std::string float_notes(const nlohmann::json& version);
/// One document on one line, as --json prints it.
std::string json_line(const nlohmann::json& document);
/// "NAME:  VALUE" a line, the values under each other.
std::string fields_text(const std::vector<std::pair<std::string, std::string>>& fields);
/// To standard output.
void print(std::string_view text);

}  // namespace rivulet::cli
