#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rivulet::http {

/// What came, as it came: nothing in it is to be trusted.
struct Request {
  std::string method;  ///< In capitals as sent, e.g. "POST".
  std::string path;    ///< Without the query, not decoded.
  std::string query;   ///< Behind the first '?', not decoded.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;  ///< Empty while only the head is known.

  /// The first header of this name, in any case; empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
  /// Whether the query has `name=value` among its '&'-separated parts.
  [[nodiscard]] bool asks(std::string_view name, std::string_view value) const;
};

struct Response {
  int status = 200;
  std::string type = {};  ///< Of the body.
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers =
      {};  ///< Beside Content-Type and those of the connection.
};

/// Whether both are the same, with ASCII's letters in any case.
bool same_letters(std::string_view a, std::string_view b);

}  // namespace rivulet::http
