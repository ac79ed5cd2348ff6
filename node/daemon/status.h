#pragma once

#include <filesystem>
#include <string>

#include "protocol/result.h"

namespace rivulet::node {

/// What the daemon of the folder says of itself, or without one what the folder tells: one JSON document.
Result<std::string> node_status(const std::filesystem::path& folder);

/// The document in lines for people.
std::string status_text(const std::string& document);

}  // namespace rivulet::node
