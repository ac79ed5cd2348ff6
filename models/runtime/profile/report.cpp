#include "models/runtime/profile/report.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/text.h"

namespace rivulet {
namespace {

using nlohmann::json;

std::string size_of(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) return fmt::format("{} B", bytes);
  return bytes < 1'000'000 ? fmt::format("{:.1f} kB", value / 1e3) : fmt::format("{:.1f} MB", value / 1e6);
}

constexpr std::size_t text_bytes_max = 300;

std::string for_xml(const std::string& text) {
  std::string out;
  for (const char c : to_printable(text, text_bytes_max)) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string title_of(const ProfileReport& report) {
  return fmt::format("{} version {} on {}", report.model, report.version, report.machine);
}

}  // namespace

std::string to_table(const ProfileReport& report) {
  std::string out = to_printable(title_of(report), text_bytes_max) + "\n\n";
  constexpr auto row = "{:<8} {:<26} {:>9} {:>9} {:>9} {:>11} {:>10} {:>10} {:>9} {}\n";
  out += fmt::format(fmt::runtime(row), "VARIANT", "ENGINE", "P50 us", "P95 us", "P99 us", "SAMPLES/s",
                     "TENSORS", "PEAK", "FILE", "");
  for (const EngineProfile& one : report.engines) {
    if (!one.refusal.empty()) {
      out += fmt::format("{:<8} {:<26} {}\n", one.variant, one.engine,
                         "refused: " + to_printable(one.refusal, text_bytes_max));
      continue;
    }
    out += fmt::format(fmt::runtime(row), one.variant, one.engine, fmt::format("{:.1f}", one.p50_us),
                       fmt::format("{:.1f}", one.p95_us), fmt::format("{:.1f}", one.p99_us),
                       fmt::format("{:.0f}", one.samples_per_second), size_of(one.activation_bytes),
                       one.peak_bytes ? size_of(*one.peak_bytes) : "-", size_of(one.file_bytes),
                       one.taken ? "taken" : "");
  }
  for (const EngineProfile& one : report.engines) {
    if (!one.taken) continue;
    double sum = 0;
    for (const OperatorTime& step : one.operators) sum += step.microseconds;
    out += fmt::format("\n{} by {}, {} parameters: {:.1f} us in operators\n", one.variant, one.engine,
                       one.parameters, sum);
    for (const OperatorTime& step : one.operators) {
      out += fmt::format("  {:<44} {:>16} {:9.1f} us {:5.1f} %\n", to_printable(step.name, text_bytes_max),
                         step.shape, step.microseconds, sum > 0 ? 100 * step.microseconds / sum : 0);
    }
  }
  return out;
}

std::string to_json(const ProfileReport& report) {
  json engines = json::array();
  for (const EngineProfile& one : report.engines) {
    json entry = {{"variant", one.variant},  {"engine", one.engine},         {"taken", one.taken},
                  {"bytes", one.file_bytes}, {"parameters", one.parameters}, {"refusal", nullptr}};
    if (!one.refusal.empty()) {
      entry["refusal"] = one.refusal;
    } else {
      json operators = json::array();
      for (const OperatorTime& step : one.operators) {
        operators.push_back(
            {{"name", step.name}, {"shape", step.shape}, {"microseconds", step.microseconds}});
      }
      entry["latency_us"] = {{"p50", one.p50_us}, {"p95", one.p95_us}, {"p99", one.p99_us}};
      entry["samples_per_second"] = one.samples_per_second;
      entry["activation_bytes"] = one.activation_bytes;
      entry["peak_bytes"] = one.peak_bytes ? json(*one.peak_bytes) : json();
      entry["operators"] = std::move(operators);
    }
    engines.push_back(std::move(entry));
  }
  const json document = {{"model", report.model},
                         {"version", report.version},
                         {"machine", report.machine},
                         {"engines", std::move(engines)}};
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string to_svg(const ProfileReport& report) {
  constexpr int left = 250, width = 520, right = 110, top = 48, step = 30, bar = 18;
  double longest = 0;
  std::size_t rows = 0;
  for (const EngineProfile& one : report.engines) {
    if (!one.refusal.empty()) continue;
    longest = std::max({longest, one.p50_us, one.p95_us});
    ++rows;
  }
  const double scale = longest > 0 ? width / longest : 0;
  const int height = top + step * static_cast<int>(rows) + 12;
  std::string out = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" font-family="sans-serif" font-size="13">)"
      "\n"
      R"(<rect width="{0}" height="{1}" fill="#ffffff"/>)"
      "\n"
      R"(<text x="12" y="20" font-weight="bold">{2}</text>)"
      "\n"
      R"(<text x="12" y="38" fill="#555555">one sample: median, and a line to the 95th percentile, in microseconds</text>)"
      "\n",
      left + width + right, height, for_xml(title_of(report)));
  int y = top;
  for (const EngineProfile& one : report.engines) {
    if (!one.refusal.empty()) continue;
    const int middle = y + step / 2;
    out += fmt::format(
        R"(<text x="{0}" y="{1}" text-anchor="end">{2}</text><rect x="{3}" y="{4}" width="{5:.1f}" height="{6}" fill="{7}"/>)"
        R"(<line x1="{8:.1f}" y1="{9}" x2="{10:.1f}" y2="{9}" stroke="#222222"/><text x="{11:.1f}" y="{1}">{12:.1f}</text>)"
        "\n",
        left - 8, middle + 5, for_xml(one.variant + ", " + one.engine), left, middle - bar / 2,
        one.p50_us * scale, bar, one.taken ? "#1f77b4" : "#b7cde0", left + one.p50_us * scale, middle,
        left + one.p95_us * scale, left + std::max(one.p50_us, one.p95_us) * scale + 6, one.p50_us);
    y += step;
  }
  return out + "</svg>\n";
}

}  // namespace rivulet
