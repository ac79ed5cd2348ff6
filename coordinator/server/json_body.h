#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "protocol/result.h"
#include "protocol/trust.h"

/// The bodies of requests, which anybody may have written.
namespace rivulet::coordinator {

/// Deeper than any body that is in order. The library copies and compares by recursion: a body of brackets
/// alone would end the process.
inline constexpr int json_depth_max = 16;

/// @return invalid if it is no JSON object, or one that is nested too deeply.
Result<nlohmann::json> parse_json_object(std::string_view text);

/// The body of POST /v1/trust, as to_json() writes it. @return invalid, with the key that is wrong.
Result<SignedTrust> parse_trust_body(std::string_view text);

}  // namespace rivulet::coordinator
