#pragma once

#include <memory>

#include "storage/fault_disk.h"

namespace rocksdb {
class Env;
}

namespace rivulet {

/// RocksDB's usual environment with every change to files passing through `disk`. In test builds only.
std::shared_ptr<rocksdb::Env> make_faulty_rocksdb_env(std::shared_ptr<FaultDisk> disk);

}  // namespace rivulet
