#include "tests/coordinator_server/http.h"

#include <httplib.h>

namespace rivulet {

HttpReply http(const Endpoint& server, const std::string& method, const std::string& path,
               const std::string& token, const std::string& body, const std::string& type) {
  httplib::Client client(server.host, server.port);
  client.set_read_timeout(60);
  httplib::Headers headers;
  if (!token.empty()) headers.emplace("Authorization", "Bearer " + token);
  const auto result = method == "GET" ? client.Get(path, headers) : client.Post(path, headers, body, type);
  if (!result) return {};
  return {result->status, result->get_header_value("Content-Type"), result->body};
}

}  // namespace rivulet
