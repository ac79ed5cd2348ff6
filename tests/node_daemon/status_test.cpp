#include "node/daemon/status.h"

#include "tests/catch.h"

namespace rivulet::node {
namespace {

TEST_CASE("the text of a status names engine, audit head, and why the link is down", "[node][status]") {
  const std::string text = status_text(R"({"node":"ab","running":true,"service":"loaded",
      "link":{"state":"offline","attempts":2,"why":"cannot connect to c:1: Connection refused"},
      "serves":{"version":5,"variant":"int8","audit_head":"0123"},
      "serving":{"version":5,"variant":"int8","engine":"int8-static-onednn"}})");
  CHECK(text.find("link      offline: cannot connect to c:1: Connection refused\n") != std::string::npos);
  CHECK(text.find("serves    version 5 (int8, int8-static-onednn)\n") != std::string::npos);
  CHECK(text.find("audit     head 0123\n") != std::string::npos);
}

TEST_CASE("the text of a status says no engine of a model that is not loaded", "[node][status]") {
  const std::string stopped = status_text(R"({"node":"ab","running":false,"service":"loading",
      "serves":{"version":5,"variant":"int8","audit_head":"0123"},"serving":null})");
  CHECK(stopped.find("serves    version 5 (int8)\n") != std::string::npos);
  CHECK(stopped.find("link") == std::string::npos);
  // The one that answers is not yet the one that was activated.
  const std::string between = status_text(R"({"node":"ab","running":true,"link":{"state":"online"},
      "serves":{"version":6,"variant":"int8","audit_head":"0123"},
      "serving":{"version":5,"variant":"fp32","engine":"float"}})");
  CHECK(between.find("serves    version 6 (int8)\n") != std::string::npos);
  CHECK(between.find("link      online\n") != std::string::npos);
  CHECK(status_text(R"({"node":"ab","serves":null})").find("serves    none\n") != std::string::npos);
}

}  // namespace
}  // namespace rivulet::node
