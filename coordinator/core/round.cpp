#include "coordinator/core/round.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "coordinator/aggregation/weights.h"
#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator {
namespace {

using std::chrono::milliseconds;

std::string short_id(ByteSpan id) { return to_hex(id.first(6)); }

}  // namespace

milliseconds Deadline::remaining(const Now& now) const {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(at - now.monotonic));
}

Deadline Deadline::after(const Now& now, milliseconds length) {
  return {now.monotonic + length, now.utc + length, length};
}

Deadline Deadline::restored(UtcTime utc, milliseconds length, const Now& now) {
  const milliseconds left = std::clamp(utc - now.utc, milliseconds(0), length);
  return {now.monotonic + left, now.utc + left, length};
}

TaskId task_id(const FleetId& fleet, RoundNumber round, const PublicKey& node, message::TaskType type,
               std::uint32_t attempt) {
  Bytes text = copy_of(bytes_of("rivulet.task.v1"));
  text.insert(text.end(), fleet.bytes.begin(), fleet.bytes.end());
  append_le(text, round);
  text.insert(text.end(), node.bytes.begin(), node.bytes.end());
  append_le(text, static_cast<std::uint8_t>(type));
  append_le(text, attempt);
  return *TaskId::from_bytes(sha256(text).span().first(TaskId::size));
}

std::string_view name(message::TaskType type) {
  return type == message::TaskType::train ? "train" : "evaluate";
}

std::expected<UpdateHeader, Refusal> open_offer(const Envelope& envelope, const PublicKey& node) {
  if (!verify_payload(node, Context::update, envelope.payload, envelope.signature)) {
    return std::unexpected(
        Refusal{Reason::bad_signature, "the update's header is not signed by this node's key"});
  }
  auto header = decode_update_header(envelope.payload);
  if (!header)
    return std::unexpected(Refusal{Reason::malformed_frame, "update header: " + header.error().detail});
  return *header;
}

std::optional<Refusal> judge(const UpdateHeader& header, const OfferContext& context) {
  const RoundPlan& plan = context.plan;
  if (header.fleet != context.fleet) {
    return Refusal{Reason::wrong_fleet, "the update is for fleet " + header.fleet.hex()};
  }
  if (header.node != context.node) {
    return Refusal{Reason::bad_signature,
                   "the header names node " + short_id(header.node.span()) + ", another signed it"};
  }
  if (context.task == nullptr) {
    return Refusal{Reason::unknown_task, "no open round has the task " + header.task.hex()};
  }
  if (context.task->node != context.node) {
    return Refusal{Reason::not_your_task, "the task " + header.task.hex() + " was given to another node"};
  }
  const Training::TaskState task = context.task->state;
  if (!context.open || task == Training::TaskState::withdrawn || task == Training::TaskState::declined) {
    return Refusal{Reason::round_closed,
                   "round " + std::to_string(plan.round) + " takes no more of this node's updates"};
  }
  if (task == Training::TaskState::refused) return context.task->refusal;
  if (header.base_version != plan.base || header.base_hash != plan.base_hash) {
    return Refusal{Reason::stale_base, "it starts from version " + std::to_string(header.base_version) +
                                           " (" + short_id(header.base_hash.span()) + "), the round from " +
                                           std::to_string(plan.base) + " (" +
                                           short_id(plan.base_hash.span()) + ")"};
  }
  if (header.codec != plan.training.codec) {
    return Refusal{Reason::wrong_layout, "it has codec " + std::to_string(header.codec) +
                                             ", the round asks for " + std::to_string(plan.training.codec)};
  }
  if (header.parameter_count != plan.parameter_count) {
    return Refusal{Reason::wrong_layout, "it has " + std::to_string(header.parameter_count) +
                                             " entries, the model " + std::to_string(plan.parameter_count)};
  }
  if (header.content_bytes == 0 || header.content_bytes > plan.update_bytes_max) {
    return Refusal{Reason::too_large, "it has " + std::to_string(header.content_bytes) + " bytes; 1 to " +
                                          std::to_string(plan.update_bytes_max) + " are right"};
  }
  if (header.sample_count == 0 || header.sample_count > plan.config.sample_count_max) {
    return Refusal{Reason::bad_sample_count,
                   "it claims " + std::to_string(header.sample_count) + " samples; 1 to " +
                       std::to_string(plan.config.sample_count_max) + " are believed"};
  }
  if (!std::isfinite(header.loss_first) || !std::isfinite(header.loss_last)) {
    return Refusal{Reason::not_finite, "its training loss is not a finite number"};
  }
  return std::nullopt;
}

std::vector<SealedEntry> seal(const std::vector<UpdateRecord>& updates, const RoundPlan& plan) {
  std::vector<std::uint64_t> counts;
  counts.reserve(updates.size());
  for (const UpdateRecord& update : updates) counts.push_back(update.sample_count);
  const std::vector<double> weights = capped_weights(counts, plan.config.sample_count_max);
  const double bound =
      plan.training.norm_bound > 0 ? plan.training.norm_bound : std::numeric_limits<double>::infinity();
  std::vector<SealedEntry> entries;
  entries.reserve(updates.size());
  for (std::size_t k = 0; k < updates.size(); ++k) {
    RIVULET_ASSERT(k == 0 || updates[k - 1].task < updates[k].task);
    const auto scale = norm_scale(updates[k].norm, bound);
    RIVULET_ASSERT(scale.has_value());  // A larger norm was refused before it was accepted.
    entries.push_back(SealedEntry{updates[k].task, updates[k].content, updates[k].content_bytes,
                                  updates[k].codec, weights[k], *scale});
  }
  return entries;
}

}  // namespace rivulet::coordinator
