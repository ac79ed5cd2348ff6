#pragma once

#include <string>

#include "node/core/turn.h"

/// What was promised: signed updates and reports, kept until the coordinator has answered them; and how
/// tasks ended.
namespace rivulet::node {

/// A task's answer is signed: it takes the task's place in one batch.
void put_in_outbox(Turn& turn, const TaskId& task, OutboxEntry entry);

void on_receipt(Turn& turn, const message::Receipt& receipt);
void on_verdicts(Turn& turn, const message::Verdicts& verdicts);
/// The coordinator no longer waits for what is still offered: its round has gone on.
void on_offer_cancelled(Turn& turn, const message::TaskCancelled& cancelled);

/// Remembers how a task ended and says so; forgets the oldest.
void record_end(Turn& turn, Ended ended, const std::string& detail);
/// How it ended, or null if that is not known (any more).
const Ended* find_ended(const State& state, const TaskId& task);

/// Ready, and reports without a receipt: to be said first in each session.
void greet(Turn& turn);
/// Offers the next update; the coordinator takes one at a time.
void settle_outbox(Turn& turn);

}  // namespace rivulet::node
