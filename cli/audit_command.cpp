#include <spdlog/fmt/fmt.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/commands.h"
#include "cli/text.h"
#include "coordinator/core/audit.h"

namespace rivulet::cli {
namespace {

using coordinator::AuditVerifier;
using nlohmann::json;

/// Follows the chain, and keeps an eye out for hashes that must be in it.
class Check {
 public:
  void expect(const Digest& hash) { expected_.insert(hash); }

  Status add(std::string_view entry) {
    if (const auto fault = verifier_.add(entry))
      return fail(Errc::corrupt, fmt::format("audit entry {} {}", fault->seq, fault->what));
    expected_.erase(verifier_.head().hash);
    return {};
  }
  [[nodiscard]] bool lacks(const Digest& hash) const { return expected_.contains(hash); }
  [[nodiscard]] const coordinator::AuditHead& head() const { return verifier_.head(); }

 private:
  AuditVerifier verifier_;
  std::set<Digest> expected_;
};

std::string intact_text(const Check& check) {
  return fmt::format("the audit log is intact: {} entries, head {}\n", check.head().seq,
                     check.head().hash.hex());
}

Status check_head(const Check& check, const std::optional<Digest>& head) {
  if (!head || !check.lacks(*head)) return {};
  return fail(
      Errc::corrupt,
      fmt::format("no audit entry has the hash {} of --head: the log was cut or rewritten", head->hex()));
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

/// The audit head that the manifest of the version in force anchors on every node; zero without a version.
Result<Digest> anchor_of(AdminClient& client, const json& status) {
  const auto version = status.at("head").get<VersionNumber>();
  if (version == 0) return Digest{};
  const auto shown = client.get_json(fmt::format("/v1/versions/{}", version));
  if (!shown) return std::unexpected(shown.error());
  return Digest::from_hex(shown->at("audit_head").get<std::string>()).value_or(Digest{});
}

Status verify_log(AdminClient& client, const std::optional<Digest>& wanted) {
  // Asked first: the log must reach at least as far as it did then.
  const auto status = client.get_json("/v1/status");
  if (!status) return std::unexpected(status.error());
  const auto anchor = anchor_of(client, *status);
  if (!anchor) return std::unexpected(anchor.error());
  const auto seq = status->at("audit").at("seq").get<std::uint64_t>();
  const auto head = status->at("audit").at("head").get<std::string>();
  Check check;
  if (*anchor != Digest{}) check.expect(*anchor);
  if (wanted) check.expect(*wanted);
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
  if (check.lacks(*anchor)) {
    return fail(
        Errc::corrupt,
        "no audit entry has the hash that the newest version's manifest anchors: the log was rewritten");
  }
  if (Status there = check_head(check, wanted); !there) return there;
  print(intact_text(check));
  return {};
}

/// Saved entries prove nothing of those that came after them.
Status verify_file(const std::filesystem::path& file, const std::optional<Digest>& wanted) {
  Check check;
  if (wanted) check.expect(*wanted);
  const Status read = read_entries(file, [&](std::string_view entry) { return check.add(entry); });
  if (!read) return fail_at(file.string(), read.error());
  if (check.head().seq == 0)
    return fail(Errc::corrupt, fmt::format("{} has no entries: every fleet's log has some", file.string()));
  if (Status there = check_head(check, wanted); !there) return fail_at(file.string(), there.error());
  print(intact_text(check));
  if (wanted && check.head().hash == *wanted) return {};
  print("whether entries are missing at its end the file cannot show: " +
        std::string(wanted ? "it reaches beyond the hash of --head\n"
                           : "give --head HASH, the audit head that a node's manifest anchors\n"));
  return {};
}

Status print_entry(std::string_view entry) {
  print(entry);
  print("\n");
  return {};
}

}  // namespace

Status show_audit(const ConnectionOptions& connection, const AuditOptions& options) {
  std::optional<Digest> head;
  if (!options.head.empty()) {
    head = Digest::from_hex(options.head);
    if (!head) {
      return fail(Errc::invalid, fmt::format("--head {} is no hash: it takes all 64 lower-case digits of one",
                                             options.head));
    }
    if (!options.verify) return fail(Errc::invalid, "--head belongs to --verify: give both");
  }
  if (!options.file.empty()) {
    return options.verify ? verify_file(options.file, head) : read_entries(options.file, print_entry);
  }
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  return options.verify ? verify_log(*client, head) : client->get_lines("/v1/audit", print_entry);
}

}  // namespace rivulet::cli
