#include "coordinator/server/driver.h"

#include <algorithm>
#include <filesystem>

#include "coordinator/work/served_content.h"
#include "link/log.h"
#include "protocol/assert.h"

namespace rivulet::coordinator {
namespace {

using std::chrono_literals::operator""s;

/// Between two looks for room on a full disk.
constexpr auto room_interval = 1s;
/// Before what failed for want of file descriptors is done again.
constexpr auto delay = 1s;
/// Less than this does not count as room, as the store's own files need some.
constexpr std::uint64_t room_bytes = 8 << 20;

}  // namespace

Driver::Driver(const Parts& parts, Hooks hooks)
    : parts_(parts), hooks_(std::move(hooks)), uploads_(std::make_unique<Uploads>(*this)) {}

Driver::~Driver() = default;

Status Driver::recover(const Config& config) {
  auto state = coordinator::recover(config, parts_.store, now());
  if (!state) return std::unexpected(state.error());
  state_ = std::move(*state);
  trust_chain_ = state_->trust_chain;
  if (!state_->rounds.empty()) counted_round_ = state_->rounds.back().round;
  const auto referenced = referenced_content(*state_);
  // Open tasks may go on with their uploads; other parts belong to nobody.
  const bool keeps_parts = std::holds_alternative<Training>(state_->round.phase);
  const auto swept = sweep(parts_.blobs, {referenced.begin(), referenced.end()},
                           keeps_parts ? UtcTime::min() : UtcTime::max());
  if (!swept) return std::unexpected(swept.error());
  uploads_->adopt(parts_.blobs.list_parts());
  std::set<ReleaseId> releases;
  for (const auto& [id, release] : state_->registry.releases) releases.insert(id);
  parts_.datasets.sweep(releases);
  return {};
}

void Driver::start(Links& links) {
  links_ = &links;
  warm_lists();
  auto transition = resume(*state_, now());
  queue_.push(std::move(transition.writes), std::move(transition.effects));
  pump();
  rearm();
}

void Driver::handle(Event event) {
  if (links_ == nullptr || broken_) return;
  const Now at = now();
  if (sent_bytes_ != 0) {
    const event::ContentServed served{std::exchange(sent_bytes_, 0)};
    auto transition = step(*state_, served, at);
    queue_.push(std::move(transition.writes), std::move(transition.effects));
  }
  auto transition = step(*state_, event, at);
  expect_receipts(event, transition.effects);
  if (queue_.in_flight() && may_overtake(*state_, transition)) {
    for (Effect& effect : transition.effects) std::visit([this](auto& value) { carry_out(value); }, effect);
  } else {
    queue_.push(std::move(transition.writes), std::move(transition.effects));
  }
  if (!std::holds_alternative<Training>(state_->round.phase)) uploads_->drop_adopted();
  count_rounds();
  pump();
  rearm();
}

void Driver::tick() {
  if (look_again_ && *look_again_ <= now().monotonic) look_for_room();
  if (delayed_until_ && *delayed_until_ <= now().monotonic) do_delayed();
  tell_left_out();
  handle(event::Tick{});
}

void Driver::rearm() {
  if (state_->storage_full && !look_again_) look_again_ = now().monotonic + room_interval;
  auto next = next_deadline(*state_).value_or(MonotonicTime::max());
  for (const auto& other : {look_again_, delayed_until_, log_limit_.next()}) {
    if (other) next = std::min(next, *other);
  }
  if (next != MonotonicTime::max()) hooks_.wake_at(next);
}

void Driver::request(const std::function<Event(RequestId)>& make,
                     std::function<void(Result<nlohmann::json>)> done) {
  if (links_ == nullptr || broken_) return done(fail(Errc::cancelled, "the coordinator is stopping"));
  const RequestId id = next_request_++;
  replies_[id] = std::move(done);
  handle(make(id));
}

void Driver::count_sent(std::uint64_t bytes) {
  sent_bytes_ += bytes;  // Told to the core with the next event: not worth one of its own.
  parts_.metrics.count_sent(bytes);
}

std::optional<ChunkList> Driver::served_list(const ContentId& content) {
  if (!may_serve(*state_, content)) return std::nullopt;
  return list_of(content);
}

std::optional<ChunkList> Driver::list_of(const ContentId& content) {
  auto found = chunk_lists_.get(parts_.blobs, content);
  if (found.newly_damaged) tell_damaged(content, "the disk changed what was stored: nodes do not get it");
  return std::move(found.list);
}

void Driver::warm_lists() {
  const Registry& registry = state_->registry;
  std::set<ContentId> contents;
  const auto add = [&](VersionNumber number) {
    const VersionRecord* version = registry.find(number);
    if (version == nullptr || !version->blobs_kept) return;
    const ReleaseRecord& release = registry.releases.at(version->manifest.release);
    contents.insert({release.content, release.release.initial_weights, version->manifest.snapshot});
    for (const VariantInfo& variant : version->manifest.variants) contents.insert(variant.content);
  };
  add(registry.head);
  const VersionRecord* head = registry.find(registry.head);
  if (head != nullptr && head->manifest.fallback) add(head->manifest.fallback->version);
  for (const ContentId& content : contents) {
    worker_.post([this, content] { std::ignore = list_of(content); });
  }
}

void Driver::tell_damaged(const ContentId& content, std::string detail) {
  log_event(LogLevel::error, "content_damaged", {{"content", content.hex()}, {"detail", std::move(detail)}});
  parts_.metrics.count_event("content_damaged", "");
}

void Driver::log_of_stranger(LogLevel level, std::string_view event, const LogFields& fields) {
  if (log_limit_.admit(event, now().monotonic)) return log_event(level, event, fields);
  rearm();
}

void Driver::tell_left_out() {
  for (const LogLimit::LeftOut& left_out : log_limit_.take_due(now().monotonic)) {
    log_event(LogLevel::warning, left_out.event,
              {{"detail", std::to_string(left_out.lines) + " more in the last " +
                              std::to_string(LogLimit::interval.count()) + " s"}});
  }
}

void Driver::again_later(Effect effect, const Error& why) {
  log_event(LogLevel::warning, "work_delayed", {{"reason", name(why.code)}, {"detail", why.detail}});
  delayed_.push_back(std::move(effect));
  delayed_until_ = now().monotonic + delay;
  rearm();
}

void Driver::do_delayed() {
  delayed_until_.reset();
  for (Effect& effect : std::exchange(delayed_, {})) {
    std::visit([this](auto& value) { carry_out(value); }, effect);
  }
}

std::string Driver::metrics_text() {
  ServerMetrics::Gauges gauges;
  gauges.blob_bytes = parts_.blobs.used_bytes();
  if (links_ != nullptr) links_->show(gauges);
  parts_.metrics.show(*state_, gauges);
  return parts_.metrics.text();
}

void Driver::count_rounds() {
  if (state_->rounds.empty() || state_->rounds.back().round <= counted_round_) return;
  for (const RoundSummary& round : state_->rounds) {
    if (round.round <= counted_round_) continue;
    parts_.metrics.count_round(round.state,
                               std::chrono::duration<double>(round.ended - round.started).count());
  }
  counted_round_ = state_->rounds.back().round;
}

const Release* Driver::find_release(const ReleaseId& id) const {
  const auto& pending = state_->registry.pending;
  if (pending && pending->release.id == id) return &pending->release.release;
  const auto found = state_->registry.releases.find(id);
  return found == state_->registry.releases.end() ? nullptr : &found->second.release;
}

// ---- Durability ------------------------------------------------------------------------------------

void Driver::pump() {
  while (!releasing_ && !broken_ && queue_.ready()) {
    auto batch = std::make_shared<WriteBatch>(queue_.start());
    if (!batch->empty()) return commit(std::move(batch));
    release();
  }
}

void Driver::commit(std::shared_ptr<WriteBatch> batch) {
  run_on<Status>(
      storage_,
      [this, batch] {
        const auto start = std::chrono::steady_clock::now();
        Status status = parts_.store.commit(*batch, Durability::synced);
        parts_.metrics.observe_commit(
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        return status;
      },
      [this, batch](const Status& status) { committed(batch, status); });
}

void Driver::committed(const std::shared_ptr<WriteBatch>& batch, const Status& status) {
  if (broken_) return;
  if (!status && status.error().code == Errc::storage_full) {
    waiting_for_room_ = batch;
    no_room();
    return;
  }
  if (!status) return broken(status.error());
  if (state_->storage_full && has_room()) {
    look_again_.reset();
    room_again();
  }
  release();
  pump();
  rearm();
}

void Driver::release() {
  releasing_ = true;  // What effects push in the meantime comes after all of them.
  for (Effect& effect : queue_.finish()) std::visit([this](auto& value) { carry_out(value); }, effect);
  releasing_ = false;
}

void Driver::no_room() {
  look_again_ = now().monotonic + room_interval;
  if (!std::exchange(told_full_, true)) {
    // The core may know it already; its own notice waits behind the commit that found no room.
    log_event(LogLevel::error, "storage_full", {{"folder", parts_.folder.string()}});
    handle(event::StorageState{.full = true});
  }
  rearm();
}

void Driver::look_for_room() {
  look_again_.reset();
  if (waiting_for_room_) return commit(std::exchange(waiting_for_room_, nullptr));
  if (!state_->storage_full) return;
  if (!has_room()) {
    look_again_ = now().monotonic + room_interval;
    if (over_quota()) handle(event::StorageState{.full = true, .over_quota = true});
    return;
  }
  room_again();
}

void Driver::room_again() {
  told_full_ = false;
  log_event(LogLevel::info, "storage_has_room");
  handle(event::StorageState{});
}

std::uint64_t Driver::room_wanted() const {
  std::uint64_t wanted = room_bytes;
  // A step of the master stores it, a snapshot and variants: four times its size is more than that.
  if (const ReleaseRecord* release = state_->registry.active_release()) {
    wanted = std::max(wanted, 16 * static_cast<std::uint64_t>(release->release.layout.size()));
  }
  return wanted;
}

bool Driver::over_quota() const {
  const std::uint64_t used = parts_.blobs.used_bytes();
  return used >= parts_.blob_quota_bytes || parts_.blob_quota_bytes - used < room_wanted();
}

bool Driver::has_room() const {
  if (over_quota()) return false;
  std::error_code error;
  const auto space = std::filesystem::space(parts_.folder, error);
  return error || space.available >= room_wanted();
}

void Driver::broken(const Error& error) {
  if (broken_) return;
  broken_ = true;
  fail_requests("the disk failed");
  hooks_.broken(error);
}

void Driver::fail_requests(const std::string& why) {
  for (auto& [id, done] : std::exchange(replies_, {})) done(fail(Errc::cancelled, why));
}

}  // namespace rivulet::coordinator
