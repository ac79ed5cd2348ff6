#include <functional>
#include <limits>

#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

/// An open round in which node 1 has a task, and an offer that fits.
struct Case {
  Training::Invited task{node_id(1), Training::TaskState::open, {}};
  OfferContext context;
  UpdateHeader header;

  Case() {
    context.fleet = test_fleet();
    context.node = node_id(1);
    context.open = true;
    context.plan.round = 3;
    context.plan.base = 7;
    context.plan.base_hash.bytes[0] = std::byte{7};
    context.plan.parameter_count = 6;
    context.plan.training.codec = 1;
    context.plan.update_bytes_max = 50;
    context.plan.config.sample_count_max = 1000;
    header.fleet = test_fleet();
    header.node = node_id(1);
    header.base_version = 7;
    header.base_hash = context.plan.base_hash;
    header.codec = 1;
    header.parameter_count = 6;
    header.sample_count = 1000;
    header.content_bytes = 50;
  }
  std::optional<Refusal> verdict() {
    if (has_task) context.task = &task;
    return judge(header, context);
  }
  bool has_task = true;
};

}  // namespace

TEST_CASE("an offer that fits is admitted, up to each limit", "[coordinator][judge]") {
  Case one;
  REQUIRE_FALSE(one.verdict());
  one.header.sample_count = 1;
  one.header.content_bytes = 1;
  REQUIRE_FALSE(one.verdict());
}

TEST_CASE("each fault of an offer has its reason", "[coordinator][judge]") {
  struct Row {
    Reason reason;
    std::function<void(Case&)> change;
  };
  const std::vector<Row> rows{
      {Reason::wrong_fleet, [](Case& c) { c.header.fleet.bytes[0] ^= std::byte{1}; }},
      {Reason::bad_signature, [](Case& c) { c.header.node = node_id(2); }},
      {Reason::unknown_task, [](Case& c) { c.has_task = false; }},
      {Reason::not_your_task, [](Case& c) { c.task.node = node_id(2); }},
      {Reason::round_closed, [](Case& c) { c.context.open = false; }},
      {Reason::round_closed, [](Case& c) { c.task.state = Training::TaskState::withdrawn; }},
      {Reason::round_closed, [](Case& c) { c.task.state = Training::TaskState::declined; }},
      {Reason::norm_too_large,
       [](Case& c) {
         c.task.state = Training::TaskState::refused, c.task.refusal = {Reason::norm_too_large, "9"};
       }},
      {Reason::stale_base, [](Case& c) { c.header.base_version = 6; }},
      {Reason::stale_base, [](Case& c) { c.header.base_hash.bytes[1] ^= std::byte{1}; }},
      {Reason::wrong_layout, [](Case& c) { c.header.codec = 0; }},
      {Reason::wrong_layout, [](Case& c) { c.header.parameter_count = 7; }},
      {Reason::too_large, [](Case& c) { c.header.content_bytes = 51; }},
      {Reason::too_large, [](Case& c) { c.header.content_bytes = 0; }},
      {Reason::too_large,
       [](Case& c) { c.header.content_bytes = std::numeric_limits<std::uint64_t>::max(); }},
      {Reason::bad_sample_count, [](Case& c) { c.header.sample_count = 0; }},
      {Reason::bad_sample_count, [](Case& c) { c.header.sample_count = 1001; }},
      {Reason::not_finite, [](Case& c) { c.header.loss_first = std::numeric_limits<double>::quiet_NaN(); }},
      {Reason::not_finite, [](Case& c) { c.header.loss_last = std::numeric_limits<double>::infinity(); }},
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i, name(rows[i].reason));
    Case one;
    rows[i].change(one);
    const auto refusal = one.verdict();
    REQUIRE(refusal);
    REQUIRE(refusal->reason == rows[i].reason);
    REQUIRE_FALSE(refusal->detail.empty());
  }
}

TEST_CASE("an offer is opened only with the node's signature in the update's context",
          "[coordinator][judge]") {
  Case one;
  const Bytes payload = encode(one.header);
  REQUIRE(open_offer(rivulet::seal(node_key(1), Context::update, payload), node_id(1)) == one.header);
  REQUIRE(open_offer(rivulet::seal(node_key(2), Context::update, payload), node_id(1)).error().reason ==
          Reason::bad_signature);
  REQUIRE(open_offer(rivulet::seal(node_key(1), Context::evaluation, payload), node_id(1)).error().reason ==
          Reason::bad_signature);
  const Bytes garbage = copy_of(bytes_of("not a message"));
  REQUIRE(open_offer(rivulet::seal(node_key(1), Context::update, garbage), node_id(1)).error().reason ==
          Reason::malformed_frame);
}

TEST_CASE("weights are capped counts and scales bring norms down to the bound", "[coordinator][seal]") {
  RoundPlan plan;
  plan.training.norm_bound = 10;
  plan.config.sample_count_max = 1000;
  std::vector<UpdateRecord> updates(3);
  for (unsigned k = 0; k < 3; ++k) updates[k].task.bytes[0] = static_cast<std::byte>(k);
  updates[0].sample_count = 10;
  updates[1].sample_count = 20;
  updates[2].sample_count = 900;
  updates[0].norm = 5;
  updates[1].norm = 10;
  updates[2].norm = 40;
  const auto entries = rivulet::coordinator::seal(updates, plan);
  // The median of 10, 20, 900 is 20; four times that is 80.
  REQUIRE(entries[0].weight == 10);
  REQUIRE(entries[1].weight == 20);
  REQUIRE(entries[2].weight == 80);
  REQUIRE(entries[0].scale == 1.0);
  REQUIRE(entries[1].scale == 1.0);
  REQUIRE(entries[2].scale == 0.25);
  plan.training.norm_bound = 0;  // None.
  REQUIRE(rivulet::coordinator::seal(updates, plan)[2].scale == 1.0);
}

}  // namespace rivulet::coordinator::testing
