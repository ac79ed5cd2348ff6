#include "link/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace rivulet {
namespace {

LogFormat chosen_format = LogFormat::text;  // Set once, before threads start.

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// A JSON string, quotes and all; what is not UTF-8 is replaced.
std::string json_text(std::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\'; });
}

}  // namespace

Result<LogFormat> parse_log_format(std::string_view text) {
  if (text == "text") return LogFormat::text;
  if (text == "json") return LogFormat::json;
  return fail(Errc::invalid, "log format '" + std::string(text) + "' is neither text nor json");
}

Status setup_log(std::string_view level, LogFormat format) {
  spdlog::level::level_enum chosen = spdlog::level::info;
  if (level == "debug") {
    chosen = spdlog::level::debug;
  } else if (level == "warning") {
    chosen = spdlog::level::warn;
  } else if (level == "error") {
    chosen = spdlog::level::err;
  } else if (level != "info") {
    return fail(Errc::invalid,
                "log level '" + std::string(level) + "' is none of debug, info, warning, error");
  }
  chosen_format = format;
  auto logger =
      std::make_shared<spdlog::logger>("rivulet", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(chosen);
  logger->flush_on(spdlog::level::debug);
  logger->set_pattern(format == LogFormat::json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                                                : "%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                      spdlog::pattern_time_type::utc);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

std::string log_text(std::string_view event, const LogFields& fields) {
  std::string line(event);
  for (const auto& [key, value] : fields) {
    if (value.empty()) continue;
    line += " " + key + "=" + (is_plain(value) ? value : json_text(value));
  }
  return line;
}

std::string log_json(std::string_view event, const LogFields& fields) {
  std::string line = "\"event\":" + json_text(event);
  for (const auto& [key, value] : fields) {
    if (!value.empty()) line += "," + json_text(key) + ":" + json_text(value);
  }
  return line;
}

void log_event(LogLevel level, std::string_view event, const LogFields& fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(level_of(level))) return;
  const std::string line =
      chosen_format == LogFormat::json ? log_json(event, fields) : log_text(event, fields);
  logger->log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace rivulet
