#include "cli/text.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace rivulet::cli {
namespace {

/// Characters, not bytes: UTF-8 continuation bytes take no place.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string TextTable::text() const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      line += printable(row[i]);
      line.append(widths[i] - width_of(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

std::string printable(std::string_view text) {
  std::string out(text);
  std::ranges::replace_if(out, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return out;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::array units = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000.0;
  std::size_t unit = 0;
  for (; value >= 999.95 && unit + 1 < units.size(); ++unit) value /= 1000.0;
  return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string fraction_text(const nlohmann::json& value) {
  return value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "-";
}

std::string time_text(const std::string& rfc3339) {
  if (rfc3339.size() < 19 || rfc3339.starts_with("1970")) return "-";
  std::string out = rfc3339.substr(0, 19);
  out[10] = ' ';
  return out;
}

std::string release_text(const nlohmann::json& release) {
  if (!release.is_object()) return "none: import a model with 'rivulet model import'";
  return fmt::format("{} {} ({} {})", release.at("name").get<std::string>(),
                     release.at("id").get<std::string>().substr(0, short_digits),
                     release.value("expired", false) ? "EXPIRED" : "expires",
                     time_text(release.at("expires").get<std::string>()));
}

std::string kernels_text(const nlohmann::json& variant) {
  const auto kernels = variant.value("kernels", std::string("float"));
  if (kernels != "int8") return kernels;
  const auto form = variant.value("int8_form", kernels);
  const auto left = variant.find("left_in_float");
  const std::size_t count = left == variant.end() ? 0 : left->size();
  return count == 0 ? form : fmt::format("{}, {} module{} in float", form, count, count == 1 ? "" : "s");
}

std::string float_notes(const nlohmann::json& version) {
  std::string out;
  for (const auto& variant : version.at("variants")) {
    std::vector<std::string> names = variant.value("left_in_float", std::vector<std::string>());
    if (names.empty()) continue;
    std::ranges::replace(names, std::string(), std::string("the network's own operations"));
    out += printable(fmt::format("left in float by {}: {}", variant.at("name").get<std::string>(),
                                 fmt::join(names, ", ")));
    out += '\n';
  }
  const auto lacking = version.value("not_published", std::vector<std::string>());
  if (lacking.empty()) return out;
  constexpr const char* why = "left_out of version_published in 'rivulet audit' says why";
  return out + printable(fmt::format("not published: {} ({})", fmt::join(lacking, ", "), why)) + '\n';
}

std::string json_line(const nlohmann::json& document) {
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

std::string fields_text(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::size_t width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, name.size());
  std::string out;
  for (const auto& [name, value] : fields)
    out += fmt::format("{:<{}} {}\n", name + ":", width + 2, printable(value));
  return out;
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

}  // namespace rivulet::cli
