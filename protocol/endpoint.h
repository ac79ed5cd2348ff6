#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/result.h"

namespace rivulet {

/// Where something listens. `host` is a name, an IPv4 address, or an IPv6 address without brackets.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;

  bool operator==(const Endpoint&) const = default;
};

/// Reads "HOST:PORT"; an IPv6 address stands in brackets, "[::1]:7443". Port 0 means "pick one" to a
/// listener.
/// @return invalid, saying what is wrong with the text. Whether the host exists is not asked.
Result<Endpoint> parse_endpoint(std::string_view text);

/// The form that parse_endpoint reads.
std::string to_string(const Endpoint& endpoint);

}  // namespace rivulet
