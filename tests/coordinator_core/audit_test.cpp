#include "coordinator/core/audit.h"

#include <vector>

#include "protocol/sha256.h"
#include "tests/catch.h"

namespace rivulet::coordinator {
namespace {

const UtcTime noon(std::chrono::milliseconds(1'800'000'000'000));

std::vector<std::string> three_entries() {
  AuditHead head;
  std::vector<std::string> entries;
  for (const char* event : {"one", "two", "three"}) {
    entries.push_back(audit_text(append_audit(head, noon, "operator", event, {{"round", 7}})));
  }
  return entries;
}

}  // namespace

TEST_CASE("an entry's hash is that of its sorted JSON text without it", "[coordinator][audit]") {
  AuditHead head;
  const auto entry = append_audit(head, noon, "operator", "token_created", {{"uses", 3}});
  const std::string text = R"({"actor":"operator","event":"token_created","previous":")" +
                           std::string(64, '0') + R"(","seq":1,"time":"2027-01-15T08:00:00.000Z","uses":3})";
  REQUIRE(entry["hash"] == sha256(bytes_of(text)).hex());
  REQUIRE(head == AuditHead{1, sha256(bytes_of(text))});
}

TEST_CASE("an unbroken chain is believed, an empty one too", "[coordinator][audit]") {
  REQUIRE_FALSE(verify_audit({}));
  REQUIRE_FALSE(verify_audit(three_entries()));
}

TEST_CASE("the first wrong entry of a chain is named", "[coordinator][audit]") {
  auto entries = three_entries();
  SECTION("a changed detail") {
    entries[1].replace(entries[1].find("\"round\":7"), 9, "\"round\":8");
    REQUIRE(verify_audit(entries)->seq == 2);
  }
  SECTION("a removed entry") {
    entries.erase(entries.begin() + 1);
    REQUIRE(verify_audit(entries)->seq == 2);
  }
  SECTION("the first one removed") {
    entries.erase(entries.begin());
    REQUIRE(verify_audit(entries)->seq == 1);
  }
  SECTION("two swapped") {
    std::swap(entries[1], entries[2]);
    REQUIRE(verify_audit(entries)->seq == 2);
  }
  SECTION("a change with its hash made anew breaks the next one") {
    AuditHead head;
    append_audit(head, noon, "operator", "one", {{"round", 7}});
    entries[1] = audit_text(append_audit(head, noon, "operator", "two", {{"round", 8}}));
    const auto fault = verify_audit(entries);
    REQUIRE(fault->seq == 3);
    REQUIRE(fault->what.find("before it") != std::string::npos);
  }
  SECTION("no JSON") {
    entries[2] = "{";
    REQUIRE(verify_audit(entries)->seq == 3);
  }
}

TEST_CASE("text that is not UTF-8 is replaced and the chain holds", "[coordinator][audit]") {
  AuditHead head;
  const std::string entry =
      audit_text(append_audit(head, noon, "operator", "node_tagged", {{"tag", "a\xff"}}));
  REQUIRE_FALSE(verify_audit(std::vector{entry}));
}

}  // namespace rivulet::coordinator
