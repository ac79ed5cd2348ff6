#include "protocol/reason.h"

namespace rivulet {

std::string_view name(Reason reason) {
  switch (reason) {
    case Reason::none: return "none";
    case Reason::unknown_key: return "unknown_key";
    case Reason::revoked: return "revoked";
    case Reason::quarantined: return "quarantined";
    case Reason::unknown_token: return "unknown_token";
    case Reason::expired_token: return "expired_token";
    case Reason::used_token: return "used_token";
    case Reason::wrong_fleet: return "wrong_fleet";
    case Reason::unsupported_protocol: return "unsupported_protocol";
    case Reason::malformed_frame: return "malformed_frame";
    case Reason::frame_too_large: return "frame_too_large";
    case Reason::unexpected_message: return "unexpected_message";
    case Reason::handshake_timeout: return "handshake_timeout";
    case Reason::idle: return "idle";
    case Reason::too_slow: return "too_slow";
    case Reason::replaced: return "replaced";
    case Reason::untrusted: return "untrusted";
    case Reason::unknown_task: return "unknown_task";
    case Reason::not_your_task: return "not_your_task";
    case Reason::bad_signature: return "bad_signature";
    case Reason::stale_base: return "stale_base";
    case Reason::wrong_layout: return "wrong_layout";
    case Reason::bad_sample_count: return "bad_sample_count";
    case Reason::too_large: return "too_large";
    case Reason::corrupt_content: return "corrupt_content";
    case Reason::bad_scale: return "bad_scale";
    case Reason::not_finite: return "not_finite";
    case Reason::norm_too_large: return "norm_too_large";
    case Reason::duplicate_content: return "duplicate_content";
    case Reason::round_closed: return "round_closed";
    case Reason::bad_report: return "bad_report";
    case Reason::round_failed: return "round_failed";
    case Reason::candidate_refused: return "candidate_refused";
    case Reason::node_revoked: return "node_revoked";
    case Reason::over_goal: return "over_goal";
    case Reason::storage_full: return "storage_full";
    case Reason::storage_failed: return "storage_failed";
    case Reason::overloaded: return "overloaded";
    case Reason::shutting_down: return "shutting_down";
    case Reason::activated: return "activated";
    case Reason::known_answers_wrong: return "known_answers_wrong";
    case Reason::worse_on_holdout: return "worse_on_holdout";
    case Reason::not_loadable: return "not_loadable";
    case Reason::bad_manifest: return "bad_manifest";
    case Reason::training_diverged: return "training_diverged";
    case Reason::training_failed: return "training_failed";
    case Reason::too_few_samples: return "too_few_samples";
    case Reason::bad_plan: return "bad_plan";
    case Reason::too_late: return "too_late";
  }
  return "unknown";
}

}  // namespace rivulet
