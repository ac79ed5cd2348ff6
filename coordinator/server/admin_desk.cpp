#include "coordinator/server/admin_desk.h"

#include <algorithm>

namespace rivulet::coordinator {
namespace {

/// Nothing took away in the meantime what was just stored: another round may have held the same bytes.
bool all_stored(const BlobStore& blobs, const event::ImportRelease& import) {
  return std::ranges::all_of(std::array{import.release_content, import.snapshot, import.master},
                             [&](const ContentId& content) { return blobs.contains(content); });
}

}  // namespace

Result<nlohmann::json> AdminDesk::import_release(ReleaseUpload upload) {
  const auto promise = std::make_shared<std::promise<Result<Json>>>();
  auto answer = promise->get_future();
  const auto shared = std::make_shared<ReleaseUpload>(std::move(upload));
  const auto hand_over = [this, promise](Result<event::ImportRelease> import) {
    if (!import) {
      if (import.error().code == Errc::storage_full) driver_.no_room();
      return promise->set_value(std::unexpected(import.error()));
    }
    if (!all_stored(driver_.blobs(), *import)) {
      return promise->set_value(fail(Errc::busy, "the release's blobs were swept: import it again"));
    }
    const auto make = [&](RequestId request) {
      import->request = request;
      return Event(*import);
    };
    driver_.request(make, [promise](Result<Json> reply) { promise->set_value(std::move(reply)); });
  };
  post_([this, shared, hand_over] {
    driver_.work<Result<event::ImportRelease>>(
        [shared, trust = driver_.state().trust, &blobs = driver_.blobs(), &datasets = driver_.datasets()] {
          return prepare_import(*shared, trust, blobs, datasets);
        },
        hand_over);
  });
  return wait(answer, import_patience);
}

}  // namespace rivulet::coordinator
