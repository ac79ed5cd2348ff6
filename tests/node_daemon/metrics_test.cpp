#include "node/daemon/metrics.h"

#include "tests/catch.h"

namespace rivulet::node {
namespace {

bool has_line(const Metrics& metrics, const std::string& line) {
  return metrics.text().find("\n" + line + "\n") != std::string::npos;
}

TEST_CASE("what an alarm asks the increase of is there before its first count", "[node][metrics]") {
  Metrics metrics;
  for (const char* series :
       {R"(rivulet_node_training_runs_total{outcome="done"})",
        R"(rivulet_node_training_runs_total{outcome="training_diverged"})",
        R"(rivulet_node_evaluations_total{outcome="too_few_samples"})",
        R"(rivulet_node_refusals_total{event="session_refused",reason="revoked"})",
        R"(rivulet_node_refusals_total{event="no_model_serves",reason="not_loadable"})",
        R"(rivulet_node_refusals_total{event="activation_failed",reason="corrupt_content"})",
        R"(rivulet_node_refusals_total{event="activation_failed",reason="storage_failed"})",
        R"(rivulet_node_refusals_total{event="task_ended",reason="over_goal"})",
        R"(rivulet_node_refusals_total{event="task_ended",reason="none"})",
        R"(rivulet_node_refusals_total{event="content_failed",reason="conflict"})",
        R"(rivulet_node_refusals_total{event="content_failed",reason="storage_full"})"}) {
    CAPTURE(series);
    CHECK(has_line(metrics, std::string(series) + " 0"));
  }
  CHECK(metrics.text().find("\"unknown\"") == std::string::npos);
  metrics.trained("training_diverged", 1.0);
  metrics.noticed({effect::Notice::Level::error, "session_refused", {{"reason", "revoked"}}});
  CHECK(has_line(metrics, R"(rivulet_node_training_runs_total{outcome="training_diverged"} 1)"));
  CHECK(has_line(metrics, R"(rivulet_node_refusals_total{event="session_refused",reason="revoked"} 1)"));
}

TEST_CASE("a model that is taken out of service is no model that took over", "[node][metrics]") {
  Metrics metrics;
  metrics.model_swapped(3);
  metrics.model_swapped(0);
  CHECK(has_line(metrics, "rivulet_node_model_swaps_total 1"));
  CHECK(has_line(metrics, "rivulet_node_served_version 0"));
}

}  // namespace
}  // namespace rivulet::node
