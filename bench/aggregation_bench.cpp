// How fast updates are decoded and averaged, as a ratio to copying memory in the same run: a figure
// that says something on any machine.
//
//   aggregation_bench [UPDATES [MILLION_PARAMETERS]]       default 20 updates of 1 million

#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <cstdlib>
#include <deque>

#include "coordinator/aggregation/aggregation_rule.h"
#include "protocol/assert.h"
#include "protocol/content.h"

namespace {

using namespace rivulet;

/// Seconds of the fastest of seven runs, which other load disturbed least.
template <typename Work>
double fastest(Work work) {
  double best = 1e9;
  for (int run = 0; run < 7; ++run) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

TaskId task(std::size_t number) {
  TaskId id;
  for (std::size_t i = 0; i < 8; ++i) id.bytes[i] = static_cast<std::byte>(number >> (56 - 8 * i));
  return id;
}

struct Round {
  Round(Codec codec, std::size_t updates, std::size_t entries) {
    Rng rng(1);
    std::vector<float> delta(entries);
    for (float& x : delta) x = static_cast<float>((uniform_unit(rng) - 0.5) * 0.02);
    for (std::size_t k = 0; k < updates; ++k) {
      const Bytes& wire = wires.emplace_back(encode(codec, delta, rng).value());
      const EncodedDelta& view = views.emplace_back(EncodedDelta::parse(codec, wire, entries).value());
      sealed.push_back({.id = task(k), .weight = 10.0 + static_cast<double>(k), .scale = 1, .delta = &view});
    }
  }

  std::deque<Bytes> wires;
  std::deque<EncodedDelta> views;
  std::vector<SealedUpdate> sealed;
};

void measure(Codec codec, std::size_t updates, std::size_t entries) {
  const Round round(codec, updates, entries);
  const auto rule = make_weighted_mean();
  std::uint64_t wire_bytes = 0;
  for (const Bytes& wire : round.wires) wire_bytes += wire.size();
  Bytes copy(round.wires.front().size());

  const double copied = fastest([&] {
    for (const Bytes& wire : round.wires) std::memcpy(copy.data(), wire.data(), wire.size());
  });
  const double inspected = fastest([&] {
    for (const EncodedDelta& view : round.views) {
      RIVULET_ASSERT(inspect(view, std::vector<CoordinateRange>{{0, entries}}).has_value());
    }
  });
  const auto all = static_cast<double>(updates) * static_cast<double>(entries);
  fmt::print("{}: {} updates of {} parameters, {:.1f} MB\n", name(codec), updates, entries,
             static_cast<double>(wire_bytes) * 1e-6);
  const auto print = [&](const std::string& what, double seconds) {
    fmt::print("  {:<28} {:8.2f} ms {:7.2f} Gparam/s {:7.2f} GB/s  {:5.2f} of memcpy\n", what, seconds * 1e3,
               all / seconds * 1e-9, static_cast<double>(wire_bytes) / seconds * 1e-9, copied / seconds);
  };
  print("memcpy of the wire forms", copied);
  print("inspect (decode and norm)", inspected);
  const double hashed = fastest([&] {
    for (const Bytes& wire : round.wires) RIVULET_ASSERT(chunk_list_of(wire).length == wire.size());
  });
  print("hash, as before the mean", hashed);
  for (const std::size_t threads : {1u, 2u}) {
    const double aggregated = fastest(
        [&] { RIVULET_ASSERT(aggregate_in_parallel(*rule, round.sealed, entries, threads).has_value()); });
    print(fmt::format("decode and mean, {} thread{}", threads, threads == 1 ? "" : "s"), aggregated);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t updates = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20;
  const std::size_t millions = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  if (updates == 0 || millions == 0) {
    fmt::print(stderr, "usage: aggregation_bench [UPDATES [MILLION_PARAMETERS]], both 1 or more\n");
    return 2;
  }
  for (const Codec codec : {Codec::int8, Codec::fp32}) measure(codec, updates, millions * 1'000'000);
  return 0;
}
