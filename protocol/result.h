#pragma once

#include <expected>
#include <string>
#include <utility>

#include "protocol/reason.h"

namespace rivulet {

/// What kind of failure it was, chosen by what the caller can do about it.
enum class Errc {
  invalid,       ///< The caller's input is wrong (usage, configuration): mend it.
  corrupt,       ///< Bytes do not say what they claim to: discard them.
  refused,       ///< The other side, or a rule, says no: don't repeat unchanged.
  not_found,     ///< What was named does not exist.
  conflict,      ///< It exists already, or is in use.
  too_large,     ///< A limit would be exceeded.
  timeout,       ///< A deadline passed.
  disconnected,  ///< The peer is gone: reconnect.
  busy,          ///< Load is shed: retry later.
  storage,       ///< The disk failed: stop promising durability.
  storage_full,  ///< The disk or a quota is full: retry when there is room.
  unsupported,   ///< A version, format or feature that this build lacks.
  permission,    ///< File modes or credentials forbid it.
  cancelled,     ///< Shutdown.
  internal,      ///< A library failed in a way that we did not foresee.
};

/// The name of `code` as it stands in logs and error bodies, e.g. "storage_full".
constexpr const char* name(Errc code) {
  switch (code) {
    case Errc::invalid: return "invalid";
    case Errc::corrupt: return "corrupt";
    case Errc::refused: return "refused";
    case Errc::not_found: return "not_found";
    case Errc::conflict: return "conflict";
    case Errc::too_large: return "too_large";
    case Errc::timeout: return "timeout";
    case Errc::disconnected: return "disconnected";
    case Errc::busy: return "busy";
    case Errc::storage: return "storage";
    case Errc::storage_full: return "storage_full";
    case Errc::unsupported: return "unsupported";
    case Errc::permission: return "permission";
    case Errc::cancelled: return "cancelled";
    case Errc::internal: return "internal";
  }
  return "internal";
}

/// Branch on `code`; show `detail`: one line that names what was wrong, where, and what to do. `reason`
/// is what a peer is told, where the error is about what it sent.
struct Error {
  Errc code = Errc::internal;
  std::string detail;
  Reason reason = Reason::none;

  bool operator==(const Error&) const = default;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// `return fail(Errc::corrupt, "…");` in a function that returns a Result or a Status.
[[nodiscard]] inline std::unexpected<Error> fail(Errc code, std::string detail,
                                                 Reason reason = Reason::none) {
  return std::unexpected(Error{code, std::move(detail), reason});
}

/// Puts "where: " before the detail of an error on its way up.
[[nodiscard]] inline std::unexpected<Error> fail_at(const std::string& where, Error error) {
  error.detail = where + ": " + error.detail;
  return std::unexpected(std::move(error));
}

}  // namespace rivulet
