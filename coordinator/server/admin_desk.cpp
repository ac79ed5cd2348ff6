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

struct AdminDesk::Import {
  ReleaseUpload upload;
  ReleaseId id;
  std::vector<ContentId> stored;
  std::promise<Result<Json>> promise;
};

Result<nlohmann::json> AdminDesk::import_release(ReleaseUpload upload) {
  const auto import = std::make_shared<Import>();
  import->id = release_id(upload.release.payload);
  import->upload = std::move(upload);
  auto answer = import->promise.get_future();
  post_([this, import] {
    if (std::exchange(importing_, true)) {
      return import->promise.set_value(
          fail(Errc::busy, "another model is being imported: try again in a moment"));
    }
    const State& state = driver_.state();
    driver_.work<Result<event::ImportRelease>>(
        [import, registered = state.registry.releases.contains(import->id), trust = state.trust,
         &blobs = driver_.blobs(), &datasets = driver_.datasets()] {
          return prepare_import(import->upload, trust, registered, blobs, datasets, import->stored);
        },
        [this, import](Result<event::ImportRelease> event) { hand_over(import, std::move(event)); });
  });
  return wait(answer, import_patience);
}

void AdminDesk::hand_over(const std::shared_ptr<Import>& import, Result<event::ImportRelease> event) {
  if (event && !all_stored(driver_.blobs(), *event)) {
    event = fail(Errc::busy, "the release's blobs were swept: import it again");
  }
  const auto make = [&](RequestId request) -> Event {
    if (!event) return event::ImportFailed{request, event.error(), import->stored};
    event->request = request;
    return *event;
  };
  driver_.request(make, [this, import](Result<Json> reply) { finish(*import, std::move(reply)); });
  if (event) return;
  if (event.error().code == Errc::storage_full) driver_.no_room();
  if (event.error().code == Errc::storage) driver_.broken(event.error());
}

void AdminDesk::finish(Import& import, Result<Json> reply) {
  importing_ = false;
  const Registry& registry = driver_.state().registry;
  const bool pending = registry.pending && registry.pending->release.id == import.id;
  if (!reply && !pending && !registry.releases.contains(import.id)) {
    // Before the next import's data, which come on the same thread.
    driver_.work<bool>(
        [id = import.id, &datasets = driver_.datasets()] {
          datasets.erase(id);
          return true;
        },
        [](bool) {});
  }
  import.promise.set_value(std::move(reply));
}

}  // namespace rivulet::coordinator
