#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "protocol/result.h"

namespace rivulet::node {

struct Joined {
  std::string fleet_name;
  std::string node;  ///< This node's key, 64 hexadecimal digits.
};

/// Makes `folder` a node of the token's fleet: makes node.key, enrols with it, and writes the trust record,
/// api.token and, last, node.toml. Interrupted at any point it can be done again: the key that is there is
/// used, and the fleet takes it twice.
/// @return invalid for a wrong token, and for a folder that has joined (nothing is changed); else why the
/// coordinator could not be reached or refused, with the reason's word.
Result<Joined> join_fleet(std::string_view token, const std::filesystem::path& folder,
                          std::chrono::milliseconds patience = std::chrono::seconds(15));

}  // namespace rivulet::node
