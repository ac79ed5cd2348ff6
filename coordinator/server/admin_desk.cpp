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
  const auto reply = [this, promise](Result<Json> result) {
    importing_ = false;
    promise->set_value(std::move(result));
  };
  const auto hand_over = [this, reply](Result<event::ImportRelease> import) {
    if (!import) {
      reply(std::unexpected(import.error()));
      if (import.error().code == Errc::storage_full) return driver_.no_room();
      if (import.error().code == Errc::storage) driver_.broken(import.error());
      return;
    }
    if (!all_stored(driver_.blobs(), *import)) {
      return reply(fail(Errc::busy, "the release's blobs were swept: import it again"));
    }
    const auto make = [&](RequestId request) {
      import->request = request;
      return Event(*import);
    };
    driver_.request(make, reply);
  };
  post_([this, promise, shared, hand_over] {
    if (std::exchange(importing_, true)) {
      return promise->set_value(fail(Errc::busy, "another model is being imported: try again in a moment"));
    }
    const State& state = driver_.state();
    const bool registered = state.registry.releases.contains(release_id(shared->release.payload));
    driver_.work<Result<event::ImportRelease>>(
        [shared, registered, trust = state.trust, &blobs = driver_.blobs(), &datasets = driver_.datasets()] {
          return prepare_import(*shared, trust, registered, blobs, datasets);
        },
        hand_over);
  });
  return wait(answer, import_patience);
}

}  // namespace rivulet::coordinator
