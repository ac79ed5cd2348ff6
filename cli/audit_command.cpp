#include <spdlog/fmt/fmt.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/text.h"
#include "coordinator/core/audit.h"

namespace rivulet::cli {
namespace {

using coordinator::AuditVerifier;
using nlohmann::json;

/// Follows the chain, and keeps an eye out for a hash that must be in it.
class Check {
 public:
  explicit Check(std::string anchor) : anchor_(std::move(anchor)) {}

  Status add(std::string_view entry) {
    if (const auto fault = verifier_.add(entry))
      return fail(Errc::corrupt, fmt::format("audit entry {} {}", fault->seq, fault->what));
    anchored_ = anchored_ || verifier_.head().hash.hex() == anchor_;
    return {};
  }
  [[nodiscard]] bool anchored() const { return anchor_.empty() || anchored_; }
  [[nodiscard]] const coordinator::AuditHead& head() const { return verifier_.head(); }

 private:
  AuditVerifier verifier_;
  std::string anchor_;
  bool anchored_ = false;
};

void print_intact(const Check& check) {
  print(fmt::format("the audit log is intact: {} entries, head {}\n", check.head().seq,
                    check.head().hash.hex()));
}

Status read_entries(const std::filesystem::path& file, const std::function<Status(std::string_view)>& take) {
  std::ifstream opened;
  if (file != "-") {
    opened.open(file, std::ios::binary);
    if (!opened)
      return fail(Errc::invalid, fmt::format("--file {} cannot be read: is it there?", file.string()));
  }
  std::istream& stream = file == "-" ? std::cin : opened;
  for (std::string line; std::getline(stream, line);) {
    if (const Status taken = take(line); !taken) return taken;
  }
  if (stream.bad()) return fail(Errc::storage, fmt::format("{} could not be read to its end", file.string()));
  return {};
}

/// The audit head that the manifest of the version in force anchors on every node; empty without a version.
Result<std::string> anchor_of(AdminClient& client, const json& status) {
  const auto version = status.at("head").get<VersionNumber>();
  if (version == 0) return std::string();
  const auto shown = client.get_json(fmt::format("/v1/versions/{}", version));
  if (!shown) return std::unexpected(shown.error());
  const auto head = shown->at("audit_head").get<std::string>();
  return head == Digest{}.hex() ? std::string() : head;
}

Status verify_log(AdminClient& client) {
  // Asked first: the log must reach at least as far as it did then.
  const auto status = client.get_json("/v1/status");
  if (!status) return std::unexpected(status.error());
  auto anchor = anchor_of(client, *status);
  if (!anchor) return std::unexpected(anchor.error());
  const auto seq = status->at("audit").at("seq").get<std::uint64_t>();
  const auto head = status->at("audit").at("head").get<std::string>();
  Check check(std::move(*anchor));
  std::string hash_then;
  const Status read = client.get_lines("/v1/audit", [&](std::string_view entry) -> Status {
    const Status added = check.add(entry);
    if (added && check.head().seq == seq) hash_then = check.head().hash.hex();
    return added;
  });
  if (!read) return read;
  if (check.head().seq < seq)
    return fail(Errc::corrupt,
                fmt::format("audit entry {} is missing: the log ends before it", check.head().seq + 1));
  if (seq > 0 && hash_then != head)
    return fail(Errc::corrupt,
                fmt::format("audit entry {} does not have the hash that the coordinator names", seq));
  if (!check.anchored()) {
    return fail(
        Errc::corrupt,
        "no audit entry has the hash that the newest version's manifest anchors: the log was rewritten");
  }
  print_intact(check);
  return {};
}

Status print_entry(std::string_view entry) {
  print(entry);
  print("\n");
  return {};
}

}  // namespace

Status show_audit(const ConnectionOptions& connection, const AuditOptions& options) {
  if (!options.file.empty()) {
    if (!options.verify) return read_entries(options.file, print_entry);
    Check check("");
    const Status read = read_entries(options.file, [&](std::string_view entry) { return check.add(entry); });
    if (!read) return fail_at(options.file.string(), read.error());
    print_intact(check);
    return {};
  }
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  return options.verify ? verify_log(*client) : client->get_lines("/v1/audit", print_entry);
}

}  // namespace rivulet::cli
