#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "node/core/effects.h"
#include "node/core/events.h"
#include "protocol/token.h"
#include "protocol/trust.h"

namespace rivulet::node {

/// The `join` command's side of one connection: the same proof of trust as in every session, then the
/// token's secret. Pure; nothing is stored before the fleet has accepted the node.
class Enrolment {
 public:
  struct Waiting {};
  struct Done {
    TrustDocument document;  ///< Store record_of(document) and go.
    std::string fleet_name;
  };
  struct Failed {
    Reason reason = Reason::none;  ///< What the coordinator said, or untrusted, handshake_timeout.
    Error error;
  };
  using Outcome = std::variant<Waiting, Done, Failed>;

  Enrolment(const JoinToken& token, std::string software);

  /// @param event Connected, Disconnected, MessageReceived or Tick; connection 1 is the only one.
  /// @return Send and Disconnect alone. When it is over it asks to disconnect.
  std::vector<Effect> step(const Event& event, Now now);
  [[nodiscard]] const Outcome& outcome() const { return outcome_; }
  /// The time by which the coordinator has to answer, once it is connected.
  [[nodiscard]] std::optional<MonotonicTime> next_deadline() const;

 private:
  std::vector<Effect> on_message(const Message& message, Now now);
  std::vector<Effect> on_trust(const message::TrustChain& chain, Now now);
  std::vector<Effect> fail_with(Reason reason, Error error);

  PublicKey root_;
  FleetId fleet_;
  JoinSecret secret_;
  std::string software_;
  std::optional<PublicKey> peer_;
  bool asked_ = false;
  std::optional<TrustDocument> document_;
  MonotonicTime deadline_{};
  Outcome outcome_ = Waiting{};
};

}  // namespace rivulet::node
