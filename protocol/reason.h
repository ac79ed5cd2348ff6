#pragma once

#include <cstdint>
#include <string_view>

namespace rivulet {

/// Why a peer, a task or an update was turned away. The numbers are part of the wire form: add at the
/// end, never renumber. The names label log lines and metrics.
enum class Reason : std::uint16_t {
  none = 0,
  // Sessions
  unknown_key = 1,
  revoked = 2,
  quarantined = 3,
  unknown_token = 4,
  expired_token = 5,
  used_token = 6,
  wrong_fleet = 7,
  unsupported_protocol = 8,
  malformed_frame = 9,
  frame_too_large = 10,
  unexpected_message = 11,
  handshake_timeout = 12,
  idle = 13,
  too_slow = 14,
  replaced = 15,
  untrusted = 16,
  // Updates and evaluations
  unknown_task = 20,
  not_your_task = 21,
  bad_signature = 22,
  stale_base = 23,
  wrong_layout = 24,
  bad_sample_count = 25,
  too_large = 26,
  corrupt_content = 27,
  bad_scale = 28,
  not_finite = 29,
  norm_too_large = 30,
  duplicate_content = 31,
  round_closed = 32,
  bad_report = 33,
  // Verdicts on accepted updates
  round_failed = 40,
  candidate_refused = 41,
  node_revoked = 42,
  over_goal = 43,
  // Load
  storage_full = 50,
  storage_failed = 51,
  overloaded = 52,
  shutting_down = 53,
  // Activation of a version on a node
  activated = 60,
  known_answers_wrong = 61,
  worse_on_holdout = 62,
  not_loadable = 63,
  bad_manifest = 64,
  // Training on a node
  training_diverged = 70,
  training_failed = 71,
  too_few_samples = 72,
  bad_plan = 73,
  too_late = 74,
};

/// The word for `reason` in logs, metrics and JSON, e.g. "norm_too_large"; "unknown" for numbers that
/// a newer peer sends.
std::string_view name(Reason reason);

}  // namespace rivulet
