#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "node/daemon/inference.h"

namespace rivulet::node {

/// One answer as the API and the command line show it: {"index","class","probabilities"|"value","version",
/// "variant","microseconds"}, or {"index","error"}. "class" is the class's name, or its number if the
/// release names none.
/// @param index of the sample for the reader; `place` that in `answers`.
nlohmann::json answer_json(const Answers& answers, std::size_t place, std::uint64_t index);
nlohmann::json error_json(std::uint64_t index, const std::string& error);

/// The JSON's text on one line; bytes that are no UTF-8 are replaced.
std::string one_line(const nlohmann::json& json);

}  // namespace rivulet::node
