#include "coordinator/core/audit.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

std::vector<std::string> log_of(std::size_t entries) {
  coordinator::AuditHead head;
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < entries; ++i) {
    const auto entry =
        coordinator::append_audit(head, UtcTime(std::chrono::seconds(1'000'000 + i)), "operator",
                                  "node_tagged", {{"tags", {"roof", std::to_string(i)}}});
    lines.push_back(coordinator::audit_text(entry));
  }
  return lines;
}

Outcome verify(const std::filesystem::path& file, const std::vector<std::string>& lines,
               const std::string& head = "") {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  tests::write(file, text);
  std::vector<std::string> arguments{"audit", "--verify", "--file", file.string()};
  if (!head.empty()) arguments.insert(arguments.end(), {"--head", head});
  return operate(arguments);
}

std::string hash_of(const std::string& line) {
  return nlohmann::json::parse(line).at("hash").get<std::string>();
}

void check_names(const Outcome& outcome, std::size_t entry) {
  INFO(outcome.err);
  CHECK(outcome.status == 1);
  CHECK(outcome.out.empty());
  CHECK(is_one_line(outcome.err, "rivulet"));
  CHECK(outcome.err.find("audit entry " + std::to_string(entry) + " ") != std::string::npos);
}

}  // namespace

TEST_CASE("a saved audit log that is whole verifies, and is printed as it stands", "[cli][audit]") {
  const TemporaryFolder folder;
  const auto file = folder.path / "audit.jsonl";
  const Outcome whole = verify(file, log_of(20));
  CHECK(whole.status == 0);
  CHECK(whole.out.find("20 entries") != std::string::npos);
  CHECK(operate({"audit", "--file", file.string()}).out == contents(file));
  const Outcome none = operate({"audit", "--verify", "--file", (folder.path / "none").string()});
  CHECK(none.status == 2);
  CHECK(is_one_line(none.err, "rivulet"));
}

TEST_CASE("the first entry that was changed, dropped, moved or cut is named", "[cli][audit]") {
  const TemporaryFolder folder;
  const auto file = folder.path / "audit.jsonl";
  const auto whole = log_of(20);
  for (const std::size_t at : {std::size_t{0}, std::size_t{7}, std::size_t{19}}) {
    auto changed = whole;
    // A digit of the time, which says something else and is as good JSON as before.
    changed[at].replace(changed[at].find("1970-01-12"), 10, "1970-01-13");
    check_names(verify(file, changed), at + 1);
  }
  auto dropped = whole;
  dropped.erase(dropped.begin() + 4);
  check_names(verify(file, dropped), 5);
  auto moved = whole;
  std::swap(moved[9], moved[10]);
  check_names(verify(file, moved), 10);
  auto cut = whole;
  cut.back().resize(cut.back().size() / 2);
  check_names(verify(file, cut), 20);
  // Every byte of one entry counts.
  for (std::size_t at = 0; at < whole[2].size(); at += 11) {
    auto flipped = whole;
    flipped[2][at] = static_cast<char>(flipped[2][at] ^ 1);
    const Outcome outcome = verify(file, flipped);
    CAPTURE(at);
    check_names(outcome, 3);
  }
}

TEST_CASE("a saved audit log is not called intact for what it does not hold", "[cli][audit]") {
  const TemporaryFolder folder;
  const auto file = folder.path / "audit.jsonl";
  const auto whole = log_of(20);
  const auto refused = [&](const Outcome& outcome, const std::string& words) {
    INFO(outcome.err);
    CHECK(outcome.status == 1);
    CHECK(outcome.out.empty());
    CHECK(is_one_line(outcome.err, "rivulet"));
    CHECK(outcome.err.find(words) != std::string::npos);
  };
  refused(verify(file, {}), "no entries");
  refused(verify(file, {}, hash_of(whole[0])), "no entries");

  const std::string unproven = "missing at its end";
  const std::vector<std::string> cut(whole.begin(), whole.begin() + 12);
  CHECK(verify(file, cut).status == 0);
  CHECK(verify(file, cut).out.find(unproven) != std::string::npos);
  refused(verify(file, cut, hash_of(whole[12])), "cut or rewritten");
  for (const std::size_t at : {std::size_t{0}, std::size_t{11}}) {
    const Outcome outcome = verify(file, cut, hash_of(whole[at]));
    CHECK(outcome.status == 0);
    CHECK(outcome.out.find("12 entries") != std::string::npos);
    CHECK((outcome.out.find(unproven) == std::string::npos) == (at == 11));
  }
  CHECK(verify(file, whole, "12ab").status == 2);
  CHECK(operate({"audit", "--head", hash_of(whole[0]), "--file", file.string()}).status == 2);
}
