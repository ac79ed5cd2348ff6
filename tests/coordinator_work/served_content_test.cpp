#include "coordinator/work/served_content.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::coordinator;

namespace {

ContentId content(const std::string& text) { return content_id_of(bytes_of(text)); }

/// A release, two versions with variants, and a round whose candidate is being judged.
State busy_state() {
  State state;
  ReleaseRecord release;
  release.id.bytes[0] = std::byte{1};
  release.content = content("release");
  release.release.initial_weights = content("w_0");
  state.registry.releases[release.id] = release;
  for (VersionNumber number : {1u, 2u}) {
    const std::string name = "version " + std::to_string(number);
    VersionRecord version;
    version.manifest.version = number;
    version.manifest.release_content = release.content;
    version.manifest.snapshot = content(name);
    for (const char* recipe : {"fp32", "int8"}) {
      VariantInfo variant;
      variant.name = recipe;
      variant.content = content(name + " " + recipe);
      version.manifest.variants.push_back(variant);
    }
    version.master = content(name + " master");
    version.optimizer_state = content(name + " moments");
    state.registry.versions[number] = version;
  }
  Gating gating;
  gating.candidate.snapshot = content("candidate");
  gating.candidate.master = content("candidate master");
  gating.candidate.optimizer_state = content("candidate moments");
  gating.sealed.updates.emplace_back().content = content("update");
  state.round.phase = std::move(gating);
  return state;
}

}  // namespace

TEST_CASE("nodes may have releases, first weights, snapshots, variants, and the candidate that is judged",
          "[coordinator][work][served]") {
  const State state = busy_state();
  for (const char* served : {"release", "w_0", "version 1", "version 2", "version 1 fp32", "version 1 int8",
                             "version 2 fp32", "version 2 int8", "candidate"}) {
    CAPTURE(served);
    CHECK(may_serve(state, content(served)));
  }
}

TEST_CASE("masters, optimizer states, updates and what nobody knows stay with the coordinator",
          "[coordinator][work][served]") {
  const State state = busy_state();
  for (const char* kept : {"version 1 master", "version 2 master", "version 1 moments", "version 2 moments",
                           "candidate master", "candidate moments", "update", "something else"}) {
    CAPTURE(kept);
    CHECK_FALSE(may_serve(state, content(kept)));
  }
  // A version without an optimizer state names the zero id, which is no content.
  CHECK_FALSE(may_serve(state, ContentId{}));
}

TEST_CASE("a candidate is served only while it is judged", "[coordinator][work][served]") {
  State state = busy_state();
  const Gating gating = std::get<Gating>(state.round.phase);
  SECTION("not before") { state.round.phase = Aggregating{}; }
  SECTION("not after it was refused") { state.round.phase = Idle{}; }
  SECTION("not while its version waits for its signature") { state.round.phase = Publishing{}; }
  CHECK_FALSE(may_serve(state, gating.candidate.snapshot));
  CHECK(may_serve(state, content("version 2")));
}

TEST_CASE("a release that is being imported is not served before its first version is signed",
          "[coordinator][work][served]") {
  State state;
  PendingImport pending;
  pending.release.content = content("release");
  pending.release.release.initial_weights = content("w_0");
  pending.manifest.snapshot = content("snapshot");
  pending.master = content("w_0");
  state.registry.pending = pending;
  CHECK_FALSE(may_serve(state, content("release")));
  CHECK_FALSE(may_serve(state, content("w_0")));
  CHECK_FALSE(may_serve(state, content("snapshot")));
}
