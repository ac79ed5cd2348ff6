#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/bytes.h"

namespace rivulet {

/// A value of N bytes that names something; `Tag` keeps the kinds apart.
template <std::size_t N, typename Tag>
struct FixedId {
  std::array<std::byte, N> bytes{};

  static constexpr std::size_t size = N;

  auto operator<=>(const FixedId&) const = default;
  [[nodiscard]] std::string hex() const { return to_hex(bytes); }
  [[nodiscard]] ByteSpan span() const { return bytes; }
  [[nodiscard]] bool is_zero() const { return *this == FixedId{}; }

  /// @return nothing unless `source` has exactly N bytes.
  static std::optional<FixedId> from_bytes(ByteSpan source) {
    if (source.size() != N) return std::nullopt;
    FixedId id;
    std::memcpy(id.bytes.data(), source.data(), N);
    return id;
  }
  static std::optional<FixedId> from_hex(std::string_view text) {
    const auto decoded = rivulet::from_hex(text);
    if (!decoded) return std::nullopt;
    return from_bytes(*decoded);
  }
};

/// A SHA-256 value (FIPS 180-4).
using Digest = FixedId<32, struct DigestTag>;
/// Names bytes by their content; see content.h.
using ContentId = FixedId<32, struct ContentTag>;
/// An Ed25519 public key; it is the name of a party.
using PublicKey = FixedId<32, struct PublicKeyTag>;
/// Chosen at random when a fleet is made, and named in each of its signed documents.
using FleetId = FixedId<16, struct FleetTag>;
/// Names one piece of work given to one node; also the id of the update that answers it.
using TaskId = FixedId<16, struct TaskTag>;
/// SHA-256 of a release's signed payload.
using ReleaseId = FixedId<32, struct ReleaseTag>;

/// What a join token proves; the coordinator keeps its SHA-256 alone.
using JoinSecret = FixedId<16, struct JoinSecretTag>;

/// Rounds and versions are numbered from 1 within a fleet; 0 is "none".
using RoundNumber = std::uint64_t;
using VersionNumber = std::uint64_t;

}  // namespace rivulet

template <std::size_t N, typename Tag>
struct std::hash<rivulet::FixedId<N, Tag>> {
  std::size_t operator()(const rivulet::FixedId<N, Tag>& id) const noexcept {
    std::size_t value;
    std::memcpy(&value, id.bytes.data(), sizeof value);
    return value;
  }
};
