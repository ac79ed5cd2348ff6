#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "node/core/agent.h"

/// For this folder's sources and tests.
namespace rivulet::node {

using Level = effect::Notice::Level;
using Fields = std::vector<std::pair<std::string, std::string>>;

/// One transition in the making: what the parts of the agent change and ask for.
struct Turn {
  State& state;
  Now now;  ///< Its utc is the local clock or the highest signed time, whichever is later.
  Transition out;
  bool collect = false;  ///< Something was let go of: look for content that nothing refers to.

  Turn(State& the_state, Now local);

  void write(Write change) { out.writes.push_back(std::move(change)); }
  void emit(Effect effect) { out.effects.push_back(std::move(effect)); }
  void send(Message message) { emit(effect::Send{state.link.connection, std::move(message)}); }
  void notice(Level level, std::string event, Fields fields = {}) {
    emit(effect::Notice{level, std::move(event), std::move(fields)});
  }
};

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

inline bool online(const State& state) { return std::holds_alternative<Online>(state.link.phase); }

}  // namespace rivulet::node
