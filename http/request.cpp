#include "http/request.h"

#include <algorithm>

namespace rivulet::http {

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view Request::header(std::string_view name) const {
  const auto found =
      std::ranges::find_if(headers, [name](const auto& header) { return same_letters(header.first, name); });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

bool Request::asks(std::string_view name, std::string_view value) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    const std::size_t equals = part.find('=');
    if (equals != std::string_view::npos && part.substr(0, equals) == name &&
        part.substr(equals + 1) == value)
      return true;
  }
  return false;
}

}  // namespace rivulet::http
