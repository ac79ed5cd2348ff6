#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// Where the audit log ends.
struct AuditHead {
  std::uint64_t seq = 0;  ///< Of the newest entry; 0: the log is empty.
  Digest hash;            ///< Its hash; zero for an empty log.

  bool operator==(const AuditHead&) const = default;
};

/// The entry after `head`, and moves `head` there:
///   {"seq", "time", "actor", "event", …details, "previous", "hash"}
/// hash = SHA-256 of the entry's JSON text without "hash": keys sorted, no spaces, UTF-8.
/// @param details an object; its keys must not be those above.
nlohmann::json append_audit(AuditHead& head, UtcTime utc, std::string_view actor, std::string_view event,
                            nlohmann::json details);

/// The text of an entry as it is stored.
std::string audit_text(const nlohmann::json& entry);

struct AuditFault {
  std::uint64_t seq = 0;  ///< The first entry that is wrong or missing.
  std::string what;

  bool operator==(const AuditFault&) const = default;
};
/// Whether `entries`, from the first one on, form an unbroken chain. @return the first fault.
std::optional<AuditFault> verify_audit(std::span<const std::string> entries);

/// The same, entry by entry.
class AuditVerifier {
 public:
  /// @return the fault, if this entry is not what comes next.
  std::optional<AuditFault> add(std::string_view entry);
  [[nodiscard]] const AuditHead& head() const { return head_; }

 private:
  AuditHead head_;
};

}  // namespace rivulet::coordinator
