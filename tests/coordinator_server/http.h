#pragma once

#include <cstdint>
#include <string>

#include "protocol/endpoint.h"

namespace rivulet {

struct HttpReply {
  int status = 0;  ///< 0: no answer.
  std::string type;
  std::string body;
};

/// @param token empty: no Authorization header. @param type of the body.
HttpReply http(const Endpoint& server, const std::string& method, const std::string& path,
               const std::string& token, const std::string& body = "",
               const std::string& type = "application/json");

}  // namespace rivulet
