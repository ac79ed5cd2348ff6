#pragma once

#include "node/daemon/folder.h"

/// N/ballast: room that a node keeps for itself, since opening a store writes, and a node whose disk somebody
/// has filled must start all the same, to answer by the model that it has.
namespace rivulet::node {

/// Reserves what opening the store may take, or an eighth of what is free, if that is less. Without room for
/// that, and on file systems that reserve nothing, there is less ballast or none.
void keep_ballast(const FolderPaths& paths);

/// Gives the room back. @return whether there was any.
bool drop_ballast(const FolderPaths& paths);

}  // namespace rivulet::node
