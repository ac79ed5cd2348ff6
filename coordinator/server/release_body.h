#pragma once

#include <string_view>

#include "coordinator/server/release_import.h"

namespace rivulet::coordinator {

/// The body of POST /v1/releases; see admin_api.h. @param body untrusted. @return invalid, naming the key.
Result<ReleaseUpload> parse_release_body(std::string_view body);

}  // namespace rivulet::coordinator
