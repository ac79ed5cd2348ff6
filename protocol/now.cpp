#include "protocol/now.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <cstdio>
#include <limits>

namespace rivulet {
namespace {

constexpr bool is_digits(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

/// The number that stands at [at, at + length); -1 if it is none.
int field(std::string_view text, std::size_t at, std::size_t length) {
  if (at + length > text.size() || !is_digits(text.substr(at, length))) return -1;
  int value = 0;
  std::from_chars(text.data() + at, text.data() + at + length, value);
  return value;
}

}  // namespace

std::string to_rfc3339(UtcTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

Result<UtcTime> parse_rfc3339(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::invalid, "'" + std::string(text) + "' is not a time like 2026-11-22T10:00:00.000Z");
  };
  constexpr std::string_view form = "0000-00-00T00:00:00";
  if (text.size() < form.size() + 1 || text.back() != 'Z') return bad();
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '0' && text[i] != form[i]) return bad();
  }
  const int year = field(text, 0, 4), month = field(text, 5, 2), day = field(text, 8, 2);
  const int hour = field(text, 11, 2), minute = field(text, 14, 2), second = field(text, 17, 2);
  if (year < 0 || month < 0 || day < 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
      second > 59) {
    return bad();
  }
  const auto date = std::chrono::year(year) / month / day;
  if (!date.ok()) return bad();
  int milliseconds = 0;
  const std::string_view fraction = text.substr(form.size(), text.size() - form.size() - 1);
  if (!fraction.empty()) {
    if (fraction.size() != 4 || fraction[0] != '.') return bad();
    milliseconds = field(fraction, 1, 3);
    if (milliseconds < 0) return bad();
  }
  return UtcTime(std::chrono::sys_days(date)) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second) + std::chrono::milliseconds(milliseconds);
}

Result<std::chrono::seconds> parse_duration(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::invalid, "'" + std::string(text) + "' is not a duration like 90s, 15m, 12h or 30d");
  };
  if (text.size() < 2 || !is_digits(text.substr(0, text.size() - 1))) return bad();
  std::int64_t unit = 0;
  switch (text.back()) {
    case 's': unit = 1; break;
    case 'm': unit = 60; break;
    case 'h': unit = 3600; break;
    case 'd': unit = 86400; break;
    default: return bad();
  }
  std::int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size() - 1, value);
  // A hundred years is more than any expiry needs, and keeps sums of times from overflowing.
  if (parsed.ec != std::errc() || value > 36500LL * 86400 / unit) return bad();
  return std::chrono::seconds(value * unit);
}

}  // namespace rivulet
