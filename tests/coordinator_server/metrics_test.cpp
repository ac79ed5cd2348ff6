#include "coordinator/server/metrics.h"

#include "coordinator/core/coordinator.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::coordinator;

namespace {

bool has_line(const ServerMetrics& metrics, const std::string& line) {
  return metrics.text().find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("what an alarm asks the increase of is there before its first count", "[coordinator][metrics]") {
  ServerMetrics metrics;
  for (const char* series :
       {R"(rivulet_rounds_total{result="published"})", R"(rivulet_rounds_total{result="refused"})",
        R"(rivulet_rounds_total{result="failed"})",
        R"(rivulet_updates_total{reason="norm_too_large",receipt="refused"})",
        R"(rivulet_updates_total{reason="",receipt="accepted"})",
        R"(rivulet_reports_total{reason="bad_report",receipt="refused"})",
        R"(rivulet_tasks_declined_total{reason="bad_manifest",type="train"})",
        R"(rivulet_tasks_declined_total{reason="too_few_samples",type="evaluate"})",
        R"(rivulet_refusals_total{reason="unknown_key"})", R"(rivulet_refusals_total{reason="overloaded"})",
        R"(rivulet_events_total{event="schedule_stopped",reason=""})",
        R"(rivulet_events_total{event="version_not_activated",reason="worse_on_holdout"})"}) {
    CAPTURE(series);
    CHECK(has_line(metrics, std::string(series) + " 0"));
  }
  CHECK(metrics.text().find("\"unknown\"") == std::string::npos);
  metrics.count_round("failed", 1);
  metrics.count_receipt("refused", "norm_too_large");
  metrics.count_declined("train", "bad_manifest");
  CHECK(has_line(metrics, R"(rivulet_rounds_total{result="failed"} 1)"));
  CHECK(has_line(metrics, R"(rivulet_updates_total{reason="norm_too_large",receipt="refused"} 1)"));
  CHECK(has_line(metrics, R"(rivulet_tasks_declined_total{reason="bad_manifest",type="train"} 1)"));
}

TEST_CASE("a schedule that stands still for a reason shows in the metrics", "[coordinator][metrics]") {
  ServerMetrics metrics;
  State state;
  metrics.show(state, {});
  CHECK(has_line(metrics, "rivulet_schedule_stopped 0"));
  // No release: no series, for one at 0 would look like one that expired in 1970.
  CHECK(metrics.text().find("rivulet_release_expires_timestamp_seconds ") == std::string::npos);
  state.schedule.stopped = "3 candidates in a row were refused";
  metrics.show(state, {});
  CHECK(has_line(metrics, "rivulet_schedule_stopped 1"));
  state.schedule.stopped.clear();
  metrics.show(state, {});
  CHECK(has_line(metrics, "rivulet_schedule_stopped 0"));
}
