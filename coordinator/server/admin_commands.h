#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/server/admin_desk.h"

/// What the routes of the admin API do; admin_api.h says which they are. No HTTP here.
namespace rivulet::coordinator {

struct AdminRequest {
  std::vector<std::string> parameters;  ///< What the route's pattern matched.
  std::string body;
};

struct AdminAnswer {
  int status = 200;
  std::string type = "application/json";
  std::string body;
};

/// The status and body for an error.
AdminAnswer error_answer(const Error& error);

struct AdminRoute {
  std::string_view method;     ///< "GET" or "POST".
  std::string_view pattern;    ///< A regular expression over the whole path.
  bool takes_release = false;  ///< Whether its body may have body_bytes_max.
  /// May take from the request what it would otherwise copy.
  Result<AdminAnswer> (*handle)(AdminDesk& desk, AdminRequest& request);
};

/// All but /healthz, /readyz, /metrics and /v1/audit.
std::vector<AdminRoute> admin_routes();

AdminAnswer health(AdminDesk& desk);
AdminAnswer readiness(AdminDesk& desk);
AdminAnswer metrics(AdminDesk& desk);

/// A part of the audit log as JSON lines. @param next the first entry wanted; moves behind those given.
/// @return empty at the end of the log.
Result<std::string> audit_lines(AdminDesk& desk, std::uint64_t& next);

}  // namespace rivulet::coordinator
