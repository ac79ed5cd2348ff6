#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/commands.h"
#include "cli/text.h"
#include "protocol/now.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds poll_interval{200};

bool is_over(const json& round) { return round.contains("ended"); }
bool is_published(const json& round) { return round.at("state") == "published"; }

std::string accuracy_text(const json& round) {
  const auto metrics = round.find("metrics");
  return metrics == round.end() ? "-" : fraction_text(metrics->value("accuracy", json(nullptr)));
}

std::string seconds_text(const json& round) {
  if (!is_over(round)) return "-";
  const auto started = parse_rfc3339(round.at("started").get<std::string>());
  const auto ended = parse_rfc3339(round.at("ended").get<std::string>());
  if (!started || !ended) return "-";
  return fmt::format("{:.1f} s", std::chrono::duration<double>(*ended - *started).count());
}

std::string result_text(const json& round) {
  std::string text = round.at("state").get<std::string>();
  if (is_published(round))
    return fmt::format("{} version {}", text, round.at("version").get<VersionNumber>());
  const auto reason = round.at("reason").get<std::string>();
  return reason.empty() ? text : text + ": " + reason;
}

std::string line_of(const json& round) {
  return fmt::format("round {}: {}, {} updates ({} refused), accuracy {}, {} down, {} up, {}\n",
                     round.at("round").get<RoundNumber>(), printable(result_text(round)),
                     round.at("accepted").get<std::uint64_t>(), round.at("refused").get<std::uint64_t>(),
                     accuracy_text(round), size_text(round.at("download_bytes").get<std::uint64_t>()),
                     size_text(round.at("upload_bytes").get<std::uint64_t>()), seconds_text(round));
}

std::string numbers_text(RoundNumber first, RoundNumber last) {
  return first == last ? fmt::format("round {}", first) : fmt::format("rounds {} to {}", first, last);
}

/// Why a round that is not listed will not be any more; empty if it is still to come.
Result<std::string> why_missing(AdminClient& client, RoundNumber round) {
  const auto status = client.get_json("/v1/status");
  if (!status) return std::unexpected(status.error());
  const json& schedule = status->at("schedule");
  if (schedule.at("started").get<RoundNumber>() > round)
    return fmt::format("round {} is over, but not listed any more: raise [limits] rounds_listed", round);
  if (schedule.at("until").get<RoundNumber>() >= round) return std::string();
  const auto why = schedule.at("stopped").get<std::string>();
  return fmt::format("the schedule stopped before round {}: {}", round,
                     why.empty() ? "see 'rivulet status'" : why);
}

/// Gives each of the rounds when it is over. @return refused if one of them cannot be told of.
Status follow_rounds(AdminClient& client, RoundNumber first, RoundNumber last,
                     const std::function<void(const json&)>& ended) {
  for (RoundNumber next = first; next <= last;) {
    const auto round = client.get_json(fmt::format("/v1/rounds/{}", next));
    if (!round && round.error().code != Errc::not_found) return std::unexpected(round.error());
    if (round && is_over(*round)) {
      ended(*round);
      ++next;
      continue;
    }
    if (!round) {
      const auto why = why_missing(client, next);
      if (!why) return std::unexpected(why.error());
      // It may have begun and ended between the two questions: ask once more before believing it.
      if (!why->empty() && !client.get_json(fmt::format("/v1/rounds/{}", next)))
        return fail(Errc::refused, *why);
    }
    std::this_thread::sleep_for(poll_interval);
  }
  return {};
}

Status wait_for_rounds(AdminClient& client, RoundNumber first, RoundNumber last, bool as_json) {
  json all = json::array();
  std::uint64_t failures = 0;
  const Status followed = follow_rounds(client, first, last, [&](const json& round) {
    if (!is_published(round)) ++failures;
    if (as_json) {
      all.push_back(round);
    } else {
      print(line_of(round));
      std::fflush(stdout);  // A pipe's reader wants each when it ends.
    }
  });
  if (as_json) print(json_line(all));
  if (!followed) return followed;
  if (failures == 0) return {};
  return fail(Errc::refused, fmt::format("{} of {} rounds published no version: see 'rivulet round list'",
                                         failures, last - first + 1));
}

}  // namespace

Status start_rounds(const ConnectionOptions& connection, std::uint32_t count, bool wait, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto started = client->post("/v1/rounds", {{"count", count}});
  if (!started) return std::unexpected(started.error());
  const auto first = started->at("first").get<RoundNumber>();
  const auto last = started->at("last").get<RoundNumber>();
  if (wait) return wait_for_rounds(*client, first, last, as_json);
  print(as_json ? json_line(*started)
                : fmt::format("{} scheduled: see 'rivulet round list'\n", numbers_text(first, last)));
  return {};
}

Status show_round(const ConnectionOptions& connection, std::optional<RoundNumber> number, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  auto answer = client->get_json(number ? fmt::format("/v1/rounds/{}", *number) : "/v1/rounds");
  if (!answer) return std::unexpected(answer.error());
  if (!number && answer->empty())
    return fail(Errc::not_found, "no round has run yet: start one with 'rivulet round start'");
  const json round = number ? *answer : answer->back();
  print(as_json ? json_line(round) : line_of(round));
  return {};
}

Status list_rounds(const ConnectionOptions& connection, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto rounds = client->get_json("/v1/rounds");
  if (!rounds) return std::unexpected(rounds.error());
  if (as_json) {
    print(json_line(*rounds));
    return {};
  }
  TextTable table(
      {"ROUND", "INVITED", "ACCEPTED", "REFUSED", "DECLINED", "ACCURACY", "DOWN", "UP", "TIME", "RESULT"});
  const auto number = [](const json& round, const char* key) {
    return std::to_string(round.at(key).get<std::uint64_t>());
  };
  for (const json& round : *rounds) {
    table.add({number(round, "round"), number(round, "invited"), number(round, "accepted"),
               number(round, "refused"), number(round, "declined"), accuracy_text(round),
               size_text(round.at("download_bytes").get<std::uint64_t>()),
               size_text(round.at("upload_bytes").get<std::uint64_t>()), seconds_text(round),
               result_text(round)});
  }
  print(table.text());
  return {};
}

}  // namespace rivulet::cli
