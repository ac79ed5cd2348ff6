#include "node/core/enrolment.h"

#include <spdlog/fmt/fmt.h>

#include "node/core/link.h"
#include "protocol/limits.h"

namespace rivulet::node {
namespace {

constexpr std::uint64_t connection = 1;
constexpr std::chrono::seconds answer_timeout{15};

}  // namespace

Enrolment::Enrolment(const JoinToken& token, std::string software)
    : root_(token.root), fleet_(token.fleet), secret_(token.secret), software_(std::move(software)) {}

std::vector<Effect> Enrolment::step(const Event& event, Now now) {
  if (!std::holds_alternative<Waiting>(outcome_)) return {};
  if (const auto* connected = std::get_if<event::Connected>(&event)) {
    peer_ = connected->coordinator;
    deadline_ = now.monotonic + answer_timeout;
    return {};
  }
  if (const auto* gone = std::get_if<event::Disconnected>(&event)) {
    outcome_ = Failed{Reason::none, gone->error};
    return {};
  }
  if (peer_ && deadline_ <= now.monotonic) {
    return fail_with(Reason::handshake_timeout, {Errc::timeout, "the coordinator did not answer in time"});
  }
  const auto* received = std::get_if<event::MessageReceived>(&event);
  return received != nullptr && peer_ ? on_message(received->message, now) : std::vector<Effect>{};
}

std::vector<Effect> Enrolment::on_message(const Message& message, Now now) {
  if (const auto* chain = std::get_if<message::TrustChain>(&message)) return on_trust(*chain, now);
  if (const auto* refused = std::get_if<message::Refused>(&message)) {
    return fail_with(refused->reason,
                     {Errc::refused, fmt::format("the coordinator refused: {}{}{}", name(refused->reason),
                                                 refused->detail.empty() ? "" : ": ", refused->detail)});
  }
  if (const auto* backoff = std::get_if<message::Backoff>(&message)) {
    return fail_with(
        backoff->reason,
        {Errc::busy, fmt::format("the coordinator is busy ({}): try again in {} s", name(backoff->reason),
                                 (std::uint64_t{backoff->retry_after_ms} + 999) / 1000)});
  }
  const auto* enrolled = std::get_if<message::Enrolled>(&message);
  if (enrolled == nullptr || !document_) return {};
  outcome_ = Done{*document_, enrolled->name};
  return {effect::Disconnect{connection, Reason::none, "enrolled"}};
}

std::vector<Effect> Enrolment::on_trust(const message::TrustChain& chain, Now now) {
  if (document_) return {};
  TrustJudgement judgement = judge_trust({root_, std::nullopt}, chain.documents, now.utc, *peer_);
  if (judgement.incomplete && !asked_) {
    asked_ = true;
    return {effect::Send{connection, message::TrustRequest{0}}};
  }
  if (!judgement.document) return fail_with(Reason::untrusted, {Errc::refused, judgement.detail});
  if (judgement.document->fleet != fleet_) {
    return fail_with(Reason::untrusted,
                     {Errc::refused, "the coordinator is of another fleet than the token"});
  }
  document_ = std::move(judgement.document);
  return {effect::Send{connection, message::Enrol{.protocol_min = protocol_version_min,
                                                  .protocol_max = protocol_version_max,
                                                  .fleet = fleet_,
                                                  .software = software_,
                                                  .secret = secret_}}};
}

std::vector<Effect> Enrolment::fail_with(Reason reason, Error error) {
  std::string detail = error.detail;
  outcome_ = Failed{reason, std::move(error)};
  return {effect::Disconnect{connection, reason, std::move(detail)}};
}

std::optional<MonotonicTime> Enrolment::next_deadline() const {
  if (!peer_ || !std::holds_alternative<Waiting>(outcome_)) return std::nullopt;
  return deadline_;
}

}  // namespace rivulet::node
