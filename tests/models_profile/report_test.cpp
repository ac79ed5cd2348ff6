#include "models/runtime/profile/report.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"

using namespace rivulet;

namespace {

ProfileReport small_report() {
  EngineProfile fast{.variant = "int8", .engine = "int8-static-onednn", .taken = true};
  fast.file_bytes = 1234;
  fast.parameters = 1000;
  fast.p50_us = 50;
  fast.p95_us = 75;
  fast.p99_us = 80;
  fast.samples_per_second = 40'000;
  fast.activation_bytes = 4096;
  fast.peak_bytes = 2'500'000;
  fast.operators = {{"quantized::conv2d_relu", "1x8x6x6", 30}, {"aten::dequantize", "1x3", 10}};
  EngineProfile slow = fast;
  slow.engine = "fp32-optimized";
  slow.taken = false;
  slow.peak_bytes.reset();
  slow.p50_us = 100;
  slow.p95_us = 100;
  EngineProfile none{
      .variant = "int8", .engine = "int8-static-qnnpack", .refusal = "answer 0 is <wrong> & \"far\" off"};
  return {"digits & more", 7, "A <processor>", {slow, fast, none}};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a profile's table has a row for each engine and the operators of the one taken", "[profile]") {
  const std::string table = to_table(small_report());
  CAPTURE(table);
  CHECK(table.starts_with("digits & more version 7 on A <processor>\n\n"));
  CHECK(count(table, "taken") == 1);
  CHECK(count(table, " 2.5 MB ") == 1);
  CHECK(count(table, " 4.1 kB          -    1.2 kB ") == 1);  // The other's peak is not known.
  CHECK(count(table, "1.2 kB") == 2);
  CHECK(count(table, "refused: answer 0 is <wrong>") == 1);
  CHECK(count(table, "quantized::conv2d_relu") == 1);
  CHECK(count(table, " 1x8x6x6      30.0 us ") == 1);
  CHECK(count(table, " 75.0 %") == 1);
  CHECK(count(table, "1000 parameters: 40.0 us in operators") == 1);
}

TEST_CASE("a profile's JSON has the figures of engines that run and the reason of those that don't",
          "[profile]") {
  const auto document = nlohmann::json::parse(to_json(small_report()));
  CHECK(document.at("model") == "digits & more");
  CHECK(document.at("version") == 7);
  const auto& engines = document.at("engines");
  REQUIRE(engines.size() == 3);
  CHECK(engines[1].at("latency_us") == nlohmann::json{{"p50", 50}, {"p95", 75}, {"p99", 80}});
  CHECK(engines[1].at("taken") == true);
  CHECK(engines[1].at("bytes") == 1234);
  CHECK(engines[1].at("peak_bytes") == 2'500'000);
  CHECK(engines[0].at("peak_bytes") == nullptr);
  CHECK(engines[1].at("activation_bytes") == 4096);
  CHECK(engines[1].at("operators").at(1) ==
        nlohmann::json{{"name", "aten::dequantize"}, {"shape", "1x3"}, {"microseconds", 10}});
  CHECK(engines[2].at("refusal") == "answer 0 is <wrong> & \"far\" off");
  CHECK_FALSE(engines[2].contains("latency_us"));
}

TEST_CASE("a profile's chart has a bar for each engine that runs, to scale, and is XML", "[profile]") {
  const std::string svg = to_svg(small_report());
  CAPTURE(svg);
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(count(svg, "digits &amp; more version 7 on A &lt;processor&gt;") == 1);
  CHECK(count(svg, "width=\"520.0\"") == 1);  // The longest,
  CHECK(count(svg, "width=\"260.0\"") == 1);  // and the one that takes half its time.
  CHECK(count(svg, "qnnpack") == 0);
  CHECK(count(svg, "<text") == count(svg, "</text>"));
  CHECK_FALSE(to_svg({}).empty());
}
