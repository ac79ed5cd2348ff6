#include "link/log.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"

using namespace rivulet;

TEST_CASE("a line of the log is one line, whatever a field holds", "[link][log]") {
  const LogFields fields{{"node", "ab12"},
                         {"reason", ""},
                         {"detail", "two words, a \"quote\"\nand a break"},
                         {"raw", "\xff\x01"}};
  CHECK(log_text("update_refused", fields) ==
        "update_refused node=ab12 detail=\"two words, a \\\"quote\\\"\\nand a break\" "
        "raw=\"\xEF\xBF\xBD\\u0001\"");
  const auto parsed = nlohmann::json::parse("{" + log_json("update_refused", fields) + "}");
  CHECK(parsed.at("event") == "update_refused");
  CHECK(parsed.at("node") == "ab12");
  CHECK(parsed.at("detail") == "two words, a \"quote\"\nand a break");
  CHECK_FALSE(parsed.contains("reason"));
}

TEST_CASE("a level or format that is none is refused", "[link][log]") {
  CHECK(setup_log("loud", LogFormat::text).error().code == Errc::invalid);
  CHECK(parse_log_format("xml").error().code == Errc::invalid);
  CHECK(parse_log_format("json").value() == LogFormat::json);
}
