#include "coordinator/core/audit.h"

#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator {
namespace {

Digest hash_of(const nlohmann::json& entry_without_hash) {
  return sha256(bytes_of(audit_text(entry_without_hash)));
}

}  // namespace

std::string audit_text(const nlohmann::json& entry) {
  // Names that people choose may hold anything: what is not UTF-8 is replaced, never thrown on.
  return entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json append_audit(AuditHead& head, UtcTime utc, std::string_view actor, std::string_view event,
                            nlohmann::json details) {
  nlohmann::json entry = details.is_null() ? nlohmann::json::object() : std::move(details);
  RIVULET_ASSERT(entry.is_object());
  for (const char* key : {"seq", "time", "actor", "event", "previous", "hash"})
    RIVULET_ASSERT(!entry.contains(key));
  entry["seq"] = head.seq + 1;
  entry["time"] = to_rfc3339(utc);
  entry["actor"] = std::string(actor);
  entry["event"] = std::string(event);
  entry["previous"] = head.hash.hex();
  head = AuditHead{head.seq + 1, hash_of(entry)};
  entry["hash"] = head.hash.hex();
  return entry;
}

std::optional<AuditFault> AuditVerifier::add(std::string_view text) {
  const std::uint64_t expected = head_.seq + 1;
  nlohmann::json entry = nlohmann::json::parse(text, nullptr, false);
  const auto is_text = [&](const char* key) { return entry.contains(key) && entry[key].is_string(); };
  if (!entry.is_object() || !entry.contains("seq") || !entry["seq"].is_number_unsigned() ||
      !is_text("previous") || !is_text("hash")) {
    return AuditFault{expected, "is not an audit entry"};
  }
  if (entry["seq"] != expected)
    return AuditFault{expected, "is missing: entry " + entry["seq"].dump() + " follows"};
  if (entry["previous"] != head_.hash.hex())
    return AuditFault{expected, "does not name the hash of the entry before it"};
  const std::string claimed = entry["hash"];
  entry.erase("hash");
  const Digest actual = hash_of(entry);
  if (claimed != actual.hex())
    return AuditFault{expected, "was changed: its text does not have the hash that it names"};
  head_ = AuditHead{expected, actual};
  return std::nullopt;
}

std::optional<AuditFault> verify_audit(std::span<const std::string> entries) {
  AuditVerifier verifier;
  for (const std::string& entry : entries) {
    if (auto fault = verifier.add(entry)) return fault;
  }
  return std::nullopt;
}

}  // namespace rivulet::coordinator
