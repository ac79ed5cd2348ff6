#pragma once

#include "tests/catch.h"
#include "tests/node_core/rig.h"

namespace rivulet::node::testing {

/// A node that is online, before a coordinator that holds a base version and a candidate of round 2.
struct Worker : Rig {
  explicit Worker(Fleet& the_fleet) : Rig(the_fleet) {
    serve(model, base);
    library[fleet.candidate(base, 2).snapshot] = {};
    boot();
    run();
  }
  void receipt(int task, message::ReceiptOutcome outcome, Reason reason = Reason::none) {
    hear(message::Receipt{task_id(task), outcome, reason, "as told"});
  }
  void reconnect() {
    lose_connection();
    advance(std::chrono::seconds(2));
    REQUIRE(online());
  }

  Model model = fleet.model();
  VersionManifest base = fleet.manifest(model, 1, 1);
};

}  // namespace rivulet::node::testing
