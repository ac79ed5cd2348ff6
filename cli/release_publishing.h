#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "cli/admin_client.h"
#include "cli/prepared_model.h"
#include "protocol/envelope.h"
#include "protocol/keys.h"

/// The two ends of whatever makes a new release: from whom and for whom, and the way to the coordinator.
namespace rivulet::cli {

/// For whom a release is made.
struct ReleaseFleet {
  FleetId id;
  std::uint64_t epoch = 0;  ///< Of the release in force.
};

/// @return refused if the fleet's trust document does not name the key: better known before the work than
/// after.
Result<ReleaseFleet> ask_fleet(AdminClient& client, const PublicKey& release_key);

/// A version with the release that it belongs to.
struct PublishedModel {
  Envelope envelope;  ///< Of the release.
  Release release;    ///< Decoded from it.
  VersionNumber version = 0;
  std::vector<float> weights;  ///< w_t, [release.layout.size()]; they have the hash in the manifest.
};

/// Gets a version from the coordinator. @return not_found, corrupt.
Result<PublishedModel> get_model(AdminClient& client, VersionNumber version);

/// A version of which a new release is to be made: get_model, and its release must be signed by the key that
/// is to sign the new one, since the coordinator is not believed what a release says. @return also refused.
Result<PublishedModel> get_teacher(AdminClient& client, VersionNumber version, const PublicKey& release_key);
Teacher link_to(const PublishedModel& teacher);

/// Signs the release and hands it over. @return the coordinator's answer: "release", "name", "version".
Result<nlohmann::json> publish_release(AdminClient& client, const PreparedModel& model, const SecretKey& key);

}  // namespace rivulet::cli
