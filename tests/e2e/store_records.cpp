// store_records FOLDER FAMILY...: prints every record of these families of the store in FOLDER, which no
// program may have open, one JSON line each: {"family","key","record"}, the key in hexadecimal.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "storage/rocksdb_store.h"

namespace {

using namespace rivulet;

Status print_family(const Store& store, const std::string& family) {
  Status result;
  const Status scanned = store.scan(family, {}, [&](ByteSpan key, ByteSpan value) {
    const auto record = nlohmann::json::parse(text_of(value), nullptr, false);
    if (record.is_discarded()) {
      result = fail(Errc::corrupt, family + "/" + to_hex(key) + " is not JSON");
      return false;
    }
    std::printf("%s\n",
                nlohmann::json{{"family", family}, {"key", to_hex(key)}, {"record", record}}.dump().c_str());
    return true;
  });
  return scanned ? result : scanned;
}

Status print_store(const std::string& folder, const std::vector<std::string>& families) {
  const auto store = open_rocksdb_store(folder, families);
  if (!store) return std::unexpected(store.error());
  for (const std::string& family : families) {
    if (Status status = print_family(**store, family); !status) return status;
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: store_records FOLDER FAMILY...\n");
    return 2;
  }
  const Status status = print_store(argv[1], {argv + 2, argv + argc});
  if (!status) std::fprintf(stderr, "store_records: %s\n", status.error().detail.c_str());
  return status ? 0 : 1;
}
