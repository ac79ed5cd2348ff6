#include "protocol/endpoint.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>

namespace rivulet {
namespace {

constexpr std::size_t host_bytes_max = 253;  // RFC 1035 section 2.3.4, in text form

bool only_from(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

constexpr std::string_view letters_digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool is_name_or_ipv4(std::string_view host) { return only_from(host, std::string(letters_digits) + ".-_"); }

/// Only the characters are checked (RFC 4007 puts a zone after '%'); the resolver judges the rest.
bool is_like_ipv6(std::string_view host) {
  const std::size_t zone = std::min(host.find('%'), host.size());
  const std::string_view address = host.substr(0, zone);
  if (address.find(':') == std::string_view::npos || !only_from(address, "0123456789abcdefABCDEF:."))
    return false;
  if (zone == host.size()) return true;
  return zone + 1 < host.size() && is_name_or_ipv4(host.substr(zone + 1));
}

}  // namespace

Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return fail(Errc::invalid,
                fmt::format("'{}' is not an address like host:7443 or [::1]:7443: {}", text, why));
  };
  const bool bracketed = text.starts_with('[');
  std::string_view host;
  std::string_view rest;
  if (bracketed) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return bad("the bracket is not closed");
    host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  } else {
    const std::size_t colon = text.find(':');
    host = text.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon);
    if (rest.find(':', 1) != std::string_view::npos) return bad("an IPv6 address needs brackets");
  }
  if (!rest.starts_with(':')) return bad("the port is missing");
  if (host.empty()) return bad("the host is missing");
  if (host.size() > host_bytes_max) return bad("the host is longer than 253 characters");
  if (bracketed && !is_like_ipv6(host)) return bad("what stands in the brackets is no IPv6 address");
  if (!bracketed && !is_name_or_ipv4(host)) return bad("the host has a character that no name has");

  const std::string_view digits = rest.substr(1);
  Endpoint endpoint{std::string(host), 0};
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, endpoint.port);
  if (digits.empty() || error != std::errc() || stop != end)
    return bad("the port is no number from 0 to 65535");
  return endpoint;
}

std::string to_string(const Endpoint& endpoint) {
  const bool ipv6 = endpoint.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", endpoint.host, endpoint.port)
              : fmt::format("{}:{}", endpoint.host, endpoint.port);
}

}  // namespace rivulet
