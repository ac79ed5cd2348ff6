#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "coordinator/server/driver.h"
#include "coordinator/work/publication.h"
#include "link/log.h"
#include "protocol/assert.h"
#include "protocol/documents.h"
#include "storage/crash_point.h"

namespace rivulet::coordinator {
namespace {

LogLevel log_level(effect::Level level) {
  switch (level) {
    case effect::Level::info: return LogLevel::info;
    case effect::Level::warning: return LogLevel::warning;
    case effect::Level::error: return LogLevel::error;
  }
  return LogLevel::info;
}

std::string_view name(message::ReceiptOutcome outcome) {
  switch (outcome) {
    case message::ReceiptOutcome::accepted: return "accepted";
    case message::ReceiptOutcome::duplicate: return "duplicate";
    case message::ReceiptOutcome::refused: return "refused";
  }
  return "refused";
}

/// Whether those who are not members can cause it, as often as they like.
bool strangers_cause(std::string_view event) {
  return event == "hello_refused" || event == "enrolment_refused" || event == "backoff";
}

std::string_view field(const effect::Notice& notice, std::string_view key) {
  const auto at =
      std::ranges::find(notice.fields, key, [](const auto& field) { return std::string_view(field.first); });
  return at == notice.fields.end() ? std::string_view() : at->second;
}

}  // namespace

void Driver::expect_receipts(const Event& cause, const std::vector<Effect>& effects) {
  const Answer answer = std::holds_alternative<event::EvaluationReceived>(cause) ? Answer::to_report
                        : std::holds_alternative<event::DeclinedReceived>(cause) ? Answer::to_decline
                                                                                 : Answer::to_update;
  for (const Effect& effect : effects) {
    const auto* send = std::get_if<effect::Send>(&effect);
    if (send != nullptr && std::holds_alternative<message::Receipt>(send->message))
      receipts_.push_back(answer);
  }
}

void Driver::count(const message::Receipt& receipt) {
  RIVULET_ASSERT(!receipts_.empty());  // No receipt overtakes another.
  const Answer answer = receipts_.front();
  receipts_.pop_front();
  const bool has_reason = receipt.reason != Reason::none;
  const std::string_view reason = has_reason ? rivulet::name(receipt.reason) : std::string_view();
  if (answer == Answer::to_update) parts_.metrics.count_receipt(name(receipt.outcome), reason);
  if (answer == Answer::to_report) parts_.metrics.count_report(name(receipt.outcome), reason);
}

void Driver::carry_out(effect::Send& effect) {
  if (const auto* receipt = std::get_if<message::Receipt>(&effect.message)) count(*receipt);
  if (const auto* backoff = std::get_if<message::Backoff>(&effect.message)) {
    parts_.metrics.count_refusal(rivulet::name(backoff->reason));
  }
  links_->send(effect.session, std::move(effect.message));
}

void Driver::carry_out(effect::SendWelcome& effect) {
  const SignedTime time{state_->trust.fleet, now().utc};
  links_->welcome(effect.session,
                  {effect.protocol, seal(parts_.key, Context::time, encode(time)), effect.heartbeat_seconds});
}

void Driver::carry_out(effect::Close& effect) {
  if (links_->close(effect.session, effect.reason, std::move(effect.detail))) {
    parts_.metrics.count_refusal(rivulet::name(effect.reason));
  }
}

void Driver::carry_out(effect::FetchUpdate& effect) { uploads_->want(*links_, effect); }

void Driver::carry_out(effect::DropFetch& effect) { uploads_->drop(effect.task); }

void Driver::carry_out(effect::Aggregate& effect) {
  const Release* release = find_release(effect.release);
  if (release == nullptr) {
    return handle(
        event::AggregationFailed{effect.round, effect.attempt, {Errc::not_found, "its release is gone"}});
  }
  work<Result<CandidateBuilt>>(
      [this, task = effect, release = *release] {
        auto built = build_candidate(task, release, parts_.key, parts_.worker_threads, parts_.blobs);
        crash_point("coordinator.candidate_built");
        if (built) std::ignore = list_of(built->snapshot);  // Hashed here, not among the sockets.
        return built;
      },
      [this, task = effect](Result<CandidateBuilt> built) {
        const RoundNumber round = task.round;
        const std::uint32_t attempt = task.attempt;
        if (built) return handle(event::Aggregated{round, attempt, std::move(*built)});
        if (built.error().code == Errc::busy) return again_later(task, built.error());
        // The core would give up what can be finished after a restart.
        if (built.error().code == Errc::storage) return broken(built.error());
        const bool full = built.error().code == Errc::storage_full;
        handle(event::AggregationFailed{round, attempt, std::move(built.error())});
        if (full) no_room();
      });
}

Result<const ScoringData*> Driver::scoring_data(const ReleaseId& release, Split split) {
  const auto data = parts_.datasets.find(release, split);
  if (data || data.error().code == Errc::storage || data.error().code == Errc::busy) return data;
  log_event(LogLevel::error, "dataset_unreadable", {{"detail", data.error().detail}});
  return nullptr;
}

void Driver::carry_out(effect::ScoreCandidate& effect) {
  const Release* release = find_release(effect.release);
  if (release == nullptr) return handle(event::CandidateScored{effect.round, effect.attempt, {}, {}, {}});
  work<Result<event::CandidateScored>>(
      [this, task = effect, release = *release]() -> Result<event::CandidateScored> {
        const auto holdout = scoring_data(task.release, Split::holdout);
        if (!holdout) return std::unexpected(holdout.error());
        const auto test = scoring_data(task.release, Split::test);
        if (!test) return std::unexpected(test.error());
        return score_candidate(task, release, *holdout, *test, parts_.runner, parts_.blobs);
      },
      [this, task = effect](Result<event::CandidateScored> scored) {
        if (!scored && scored.error().code == Errc::busy) return again_later(task, scored.error());
        if (!scored) return broken(scored.error());
        handle(std::move(*scored));
      });
}

void Driver::carry_out(effect::SealVersion& effect) {
  const Release* release = find_release(effect.manifest.release);
  if (release == nullptr) {
    return handle(event::PublicationFailed{
        effect.manifest.manifest_version, {Errc::not_found, "its release is gone"}, {}});
  }
  const auto stored = std::make_shared<std::vector<ContentId>>();
  work<Result<event::VersionSealed>>(
      [this, task = effect, release = *release, stored]() -> Result<event::VersionSealed> {
        const auto test = scoring_data(task.manifest.release, Split::test);
        if (!test) return std::unexpected(test.error());
        const auto holdout = scoring_data(task.manifest.release, Split::holdout);
        if (!holdout) return std::unexpected(holdout.error());
        auto sealed = seal_version(task, release, {.holdout = *holdout, .test = *test}, parts_.key,
                                   parts_.runner, parts_.blobs, *stored);
        crash_point("coordinator.version_sealed");
        if (sealed) {
          std::ignore = list_of(task.manifest.snapshot);
          for (const VariantInfo& variant : sealed->manifest.variants) {
            std::ignore = list_of(variant.content);
          }
        }
        return sealed;
      },
      [this, task = effect, stored](Result<event::VersionSealed> sealed) {
        const std::uint64_t number = task.manifest.manifest_version;
        if (sealed) return handle(std::move(*sealed));
        if (sealed.error().code == Errc::busy) return again_later(task, sealed.error());
        if (sealed.error().code == Errc::storage) return broken(sealed.error());
        const bool full = sealed.error().code == Errc::storage_full;
        handle(event::PublicationFailed{number, std::move(sealed.error()), std::move(*stored)});
        if (full) no_room();
      });
}

void Driver::carry_out(effect::ServeTrust& effect) { trust_chain_.push_back(std::move(effect.trust)); }

void Driver::carry_out(effect::EraseContent& effect) {
  chunk_lists_.forget(effect.content);
  std::ignore = parts_.blobs.erase(effect.content);  // Best effort: a restart sweeps what is left.
  std::ignore = parts_.blobs.erase_part(effect.content);
}

void Driver::carry_out(effect::Reply& effect) {
  auto waiting = replies_.extract(effect.request);
  if (!waiting.empty()) waiting.mapped()(std::move(effect.result));
}

void Driver::carry_out(effect::Notice& effect) {
  parts_.metrics.count_event(effect.event, effect.reason);
  if (effect.event == "task_declined") parts_.metrics.count_declined(field(effect, "type"), effect.reason);
  LogFields fields;
  if (!effect.reason.empty()) fields.emplace_back("reason", effect.reason);
  fields.insert(fields.end(), effect.fields.begin(), effect.fields.end());
  if (strangers_cause(effect.event)) return log_of_stranger(log_level(effect.level), effect.event, fields);
  log_event(log_level(effect.level), effect.event, fields);
}

}  // namespace rivulet::coordinator
