#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/result.h"

/// The log of a daemon: one line an event, to standard error, times in UTC. Thread-safe.
namespace rivulet {

enum class LogFormat {
  text,  ///< TIME LEVEL EVENT key=value key="a value"
  json,  ///< {"time","level","event",…fields}
};
enum class LogLevel { debug, info, warning, error };

/// Before the first event. @param level "debug", "info", "warning" or "error". @return invalid.
Status setup_log(std::string_view level, LogFormat format);
/// @param text "text" or "json". @return invalid.
Result<LogFormat> parse_log_format(std::string_view text);

using LogFields = std::vector<std::pair<std::string, std::string>>;

/// @param event a fixed word, such as "update_refused". @param fields never a secret; any bytes will do,
/// as control characters are escaped and fields that are empty left out.
void log_event(LogLevel level, std::string_view event, const LogFields& fields = {});

/// What log_event writes after time and level, in text form.
std::string log_text(std::string_view event, const LogFields& fields);
/// … and in JSON, without braces.
std::string log_json(std::string_view event, const LogFields& fields);

}  // namespace rivulet
