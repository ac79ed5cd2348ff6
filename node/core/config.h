#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "node/core/variant_choice.h"
#include "protocol/ids.h"

namespace rivulet::node {

/// What the agent is told at start; it doesn't change while it runs.
struct Config {
  PublicKey node;        ///< This node's own key.
  PublicKey root;        ///< The fleet's root key as the join token named it.
  std::string software;  ///< Shown to the coordinator, e.g. "rivulet 0.1.0".
  std::string variant =
      "auto";  ///< The best that fits the device; or the one named, if offered, else "fp32".
  DeviceLimits device{};

  std::uint64_t model_bytes_max = std::uint64_t{256} << 20;  ///< Weights beyond this are not fetched.
  std::size_t tasks_max = 8;                                 ///< Held at once; more are turned away.
  std::uint32_t attempts_max = 3;                            ///< Of a task, or of content that gets damaged.
  std::size_t ended_max = 256;                               ///< Ended tasks that are remembered.
  std::size_t outbox_max = 128;  ///< Results that wait for an answer: with so many no task is taken.

  std::chrono::milliseconds backoff_min{1'000};          ///< First wait before connecting again; it doubles …
  std::chrono::milliseconds backoff_max{60'000};         ///< … up to this.
  std::chrono::milliseconds retry_after_max{3'600'000};  ///< The most that a coordinator may ask for.
  std::chrono::milliseconds refused_wait{600'000};       ///< After a refusal that only an operator can mend.
  std::chrono::milliseconds connect_timeout{30'000};
  std::chrono::milliseconds answer_timeout{15'000};  ///< For the trust chain, and for the welcome.
  std::chrono::milliseconds telemetry_interval{60'000};
  std::chrono::milliseconds task_length_max{std::chrono::days(7)};  ///< Longer deadlines are cut to this.
  std::chrono::milliseconds verdict_wait_max{
      std::chrono::days(14)};  ///< For what came of an accepted update.
};

}  // namespace rivulet::node
