#pragma once

#include <string>

#include "coordinator/server/release_import.h"

namespace rivulet::coordinator {

/// The body of POST /v1/releases; see admin_api.h. @param body untrusted; gone as soon as it is read, since
/// it is larger than the model. @return invalid, naming the key.
Result<ReleaseUpload> parse_release_body(std::string body);

}  // namespace rivulet::coordinator
