#pragma once

#include <vector>

#include "protocol/documents.h"
#include "protocol/message.h"
#include "protocol/trust.h"

/// Values whose frames are stored in tests/protocol/golden: they never change. A new kind of message gets a
/// value and a file of its own.
namespace rivulet::testing {

template <typename Id>
Id id_of(int seed) {
  Id id;
  for (std::size_t i = 0; i < Id::size; ++i)
    id.bytes[i] = static_cast<std::byte>(seed * 31 + static_cast<int>(i));
  return id;
}

inline Envelope some_envelope(int seed) {
  return {copy_of(bytes_of("payload " + std::to_string(seed))), id_of<Signature>(seed)};
}

/// One of each kind, in the order of Message, with no field at its default.
inline std::vector<Message> one_of_each() {
  const TaskId task = id_of<TaskId>(1);
  const ContentId content = id_of<ContentId>(2);
  SignedTrust trust{copy_of(bytes_of("doc")), {{id_of<PublicKey>(3), id_of<Signature>(4)}}};
  return {
      message::TrustChain{{trust, trust}},
      message::TrustRequest{7},
      message::Hello{1, 2, id_of<FleetId>(5), "rivulet 0.1"},
      message::Enrol{1, 2, id_of<FleetId>(5), "rivulet 0.1", id_of<JoinSecret>(6)},
      message::Enrolled{"river"},
      message::Welcome{1, some_envelope(1), 60},
      message::Refused{Reason::revoked, "revoked by the operator"},
      message::Backoff{Reason::overloaded, 1500},
      message::Ready{3, 9, 120, 30, {task}, {task, id_of<TaskId>(8)}},
      message::Assignment{some_envelope(2)},
      message::Task{task,
                    message::TaskType::evaluate,
                    4,
                    60000,
                    some_envelope(3),
                    {5, 10, 0.05, 0.9, 1e-4, 0.01, 2.5, 99, 1, 1},
                    some_envelope(4)},
      message::TaskCancelled{task, Reason::round_closed},
      message::Fetch{content, 1 << 20, 65536, true},
      message::ContentList{content, {3 << 20, {id_of<Digest>(1), id_of<Digest>(2), id_of<Digest>(3)}}},
      message::Chunk{content, 65536, Bytes(40, std::byte{42})},
      message::Credit{content, 131072},
      message::NoContent{content},
      message::Offer{some_envelope(5)},
      message::Receipt{task, message::ReceiptOutcome::refused, Reason::norm_too_large,
                       "norm 9 over 4 times 2"},
      message::Verdicts{{{task, message::VerdictOutcome::aggregated, Reason::none, 12},
                         {id_of<TaskId>(9), message::VerdictOutcome::discarded, Reason::round_failed, 0}}},
      message::Evaluation{some_envelope(6)},
      message::Heartbeat{},
      message::Telemetry{3, 120, 30, 1000, 2},
      message::Activation{4, 10, Reason::worse_on_holdout, "0.81 after 0.93"},
      message::Declined{task, Reason::training_failed, "out of memory"},
  };
}

inline UpdateHeader some_header() {
  return {id_of<FleetId>(1),
          id_of<TaskId>(2),
          id_of<PublicKey>(3),
          4,
          id_of<Digest>(5),
          1,
          1000,
          50,
          2.5,
          0.5,
          id_of<ContentId>(6),
          1234,
          UtcTime(std::chrono::milliseconds(1700000000123))};
}

inline EvaluationReport some_report() {
  return {id_of<FleetId>(1),
          id_of<TaskId>(2),
          id_of<PublicKey>(3),
          id_of<Digest>(4),
          id_of<Digest>(5),
          10,
          2,
          3,
          4,
          1.5,
          1.25,
          UtcTime(std::chrono::milliseconds(7))};
}

inline SignedTime some_time() {
  return {id_of<FleetId>(1), UtcTime(std::chrono::milliseconds(1700000000123))};
}

inline TrustDocument some_trust() {
  return {id_of<FleetId>(1),
          "river",
          3,
          UtcTime(std::chrono::milliseconds(1700000000123)),
          UtcTime(std::chrono::milliseconds(1800000000456)),
          id_of<PublicKey>(2),
          {id_of<PublicKey>(3), id_of<PublicKey>(4)},
          id_of<PublicKey>(5)};
}

}  // namespace rivulet::testing
