#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>

namespace rivulet {

/// Seeded randomness for decisions that must replay: the sequence is fixed by the C++ standard. The
/// functions below replace the standard distributions, whose results differ between libraries.
using Rng = std::mt19937_64;

/// Uniform in [0, bound). @param bound at least 1.
inline std::uint64_t uniform_below(Rng& rng, std::uint64_t bound) {
  const std::uint64_t limit = Rng::max() - Rng::max() % bound;
  std::uint64_t draw = rng();
  while (draw >= limit) draw = rng();
  return draw % bound;
}

/// Uniform in [0, 1) with 53 random bits.
inline double uniform_unit(Rng& rng) { return static_cast<double>(rng() >> 11) * 0x1.0p-53; }

/// Fisher-Yates.
template <typename T>
void shuffle(std::span<T> items, Rng& rng) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[uniform_below(rng, i)]);
}

/// An independent stream for a purpose: SplitMix64's mixing of seed and label (Steele et al. 2014).
inline std::uint64_t derive_seed(std::uint64_t seed, std::uint64_t label) {
  std::uint64_t z = seed + 0x9e3779b97f4a7c15ULL * (label + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace rivulet
