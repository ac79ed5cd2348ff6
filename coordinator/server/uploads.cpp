#include "coordinator/server/uploads.h"

#include <algorithm>

#include "coordinator/server/driver.h"
#include "coordinator/work/served_content.h"
#include "storage/crash_point.h"

namespace rivulet::coordinator {
namespace {

/// A disk that damages one content so often does not store it the next time either.
constexpr int damages_max = 2;

/// Whether what was found out about one holds for the other.
bool is_same(const effect::FetchUpdate& a, const effect::FetchUpdate& b) {
  return a.content == b.content && a.bytes == b.bytes && a.codec == b.codec &&
         a.parameter_count == b.parameter_count && a.release == b.release;
}

}  // namespace

void Uploads::want(Links& links, const effect::FetchUpdate& update) {
  links_ = &links;
  wanted_[update.task] = update;
  adopted_.erase(update.content);
  const auto [begun, is_first] = begun_.try_emplace(update.task, update.content);
  const ContentId former = std::exchange(begun->second, update.content);
  begin(update);
  if (former != update.content) erase_abandoned(former);
}

void Uploads::drop(const TaskId& task) {
  wanted_.erase(task);
  const auto begun = begun_.extract(task);
  if (!begun.empty()) erase_abandoned(begun.mapped());
}

void Uploads::adopt(const std::vector<PartInfo>& parts) {
  for (const PartInfo& part : parts) adopted_.insert(part.id);
}

void Uploads::drop_adopted() {
  for (const ContentId& content : std::exchange(adopted_, {})) erase_abandoned(content);
}

void Uploads::erase_abandoned(const ContentId& content) {
  const bool is_begun =
      std::ranges::any_of(begun_, [&](const auto& entry) { return entry.second == content; });
  if (is_begun || settling_.contains(content)) return;
  damages_.erase(content);
  const auto source = fetching_.extract(content);
  if (!source.empty()) links_->stop_fetch(source.mapped(), content);
  std::ignore = driver_.blobs().erase_part(content);  // Best effort: a restart sweeps it.
}

std::vector<effect::FetchUpdate> Uploads::wanting(const ContentId& content) const {
  std::vector<effect::FetchUpdate> updates;
  for (const auto& [task, update] : wanted_) {
    if (update.content == content) updates.push_back(update);
  }
  return updates;
}

void Uploads::begin(const effect::FetchUpdate& update) {
  if (settling_.contains(update.content)) return;  // Answered with the others.
  if (driver_.blobs().contains(update.content)) return settle(update.content, false);
  const auto source = fetching_.find(update.content);
  if (source != fetching_.end() && source->second != update.session && links_->open(source->second)) return;
  // A session fetches one content at a time: this one takes the place of another.
  const auto other = std::ranges::find_if(fetching_, [&](const auto& entry) {
    return entry.second == update.session && entry.first != update.content;
  });
  const bool replaces = other != fetching_.end();
  const ContentId replaced = replaces ? other->first : ContentId{};
  if (replaces) fetching_.erase(other);
  fetching_[update.content] = update.session;
  if (!links_->fetch(update.session, update.content, update.bytes)) {
    fetching_.erase(update.content);
    give_up(update, "the node is gone", Cause::connection);
  }
  if (replaces) begin_next(replaced);
}

void Uploads::begin_next(const ContentId& content) {
  if (fetching_.contains(content) || settling_.contains(content)) return;
  for (const effect::FetchUpdate& update : wanting(content)) {
    if (links_->open(update.session)) return begin(update);
  }
}

void Uploads::arrived(SessionId session, const ContentId& content) {
  const auto source = fetching_.find(content);
  if (source == fetching_.end() || source->second != session) return;
  fetching_.erase(source);
  settle(content, true);
}

void Uploads::settle(const ContentId& content, bool is_part) {
  const auto updates = wanting(content);
  if (updates.empty()) {
    if (is_part) std::ignore = driver_.blobs().erase_part(content);  // Best effort: a restart sweeps it.
    return;
  }
  std::vector<ParameterLayout> layouts;
  for (const effect::FetchUpdate& update : updates) {
    const auto release = driver_.state().registry.releases.find(update.release);
    layouts.push_back(release == driver_.state().registry.releases.end() ? ParameterLayout{}
                                                                         : release->second.release.layout);
  }
  settling_.insert(content);
  const bool may_erase = !is_accepted(content) && !may_serve(driver_.state(), content);
  driver_.work_on_contents<Settled>(
      [&blobs = driver_.blobs(), content, is_part, may_erase, updates, layouts] {
        Settled outcome = make_durable(blobs, content, is_part, may_erase, updates, layouts);
        crash_point("coordinator.update_stored");
        return outcome;
      },
      [this, content, updates](const Settled& outcome) { settled(content, updates, outcome); });
}

Uploads::Settled Uploads::make_durable(BlobStore& blobs, const ContentId& content, bool is_part,
                                       bool may_erase, const std::vector<effect::FetchUpdate>& updates,
                                       const std::vector<ParameterLayout>& layouts) {
  Settled outcome;
  if (is_part) outcome.stored = blobs.finish_part(content);
  if (!outcome.stored) return outcome;
  // What came over earlier connections was hashed when it came, and lay on the disk since.
  const auto list = hash_blob(blobs, content);
  if (!list) {
    outcome.stored = std::unexpected(list.error());
    return outcome;
  }
  if (list->id() != content) {
    outcome.damaged = true;
    if (may_erase) outcome.stored = blobs.erase(content);
    return outcome;
  }
  for (std::size_t i = 0; i < updates.size(); ++i) {
    auto inspection = inspect_update(updates[i], layouts[i], blobs);
    if (!inspection) {
      outcome.stored = std::unexpected(inspection.error());
      return outcome;
    }
    outcome.inspections.push_back(std::move(*inspection));
  }
  return outcome;
}

void Uploads::settled(const ContentId& content, const std::vector<effect::FetchUpdate>& updates,
                      const Settled& outcome) {
  settling_.erase(content);
  if (!outcome.stored) {
    const Error& error = outcome.stored.error();
    if (error.code == Errc::storage) return driver_.broken(error);
    if (error.code == Errc::storage_full) driver_.no_room();
    for (const effect::FetchUpdate& update : wanting(content)) give_up(update, error.detail, Cause::here);
    return;
  }
  if (outcome.damaged) return mend(content);
  damages_.erase(content);
  for (std::size_t i = 0; i < updates.size(); ++i) {
    const auto wanted = wanted_.find(updates[i].task);
    if (wanted != wanted_.end() && is_same(wanted->second, updates[i]))
      answer(updates[i], outcome.inspections[i]);
  }
  const auto others = wanting(content);  // That came in the meantime.
  if (!others.empty()) return settle(content, false);
  erase_unreferenced(content);
}

bool Uploads::is_accepted(const ContentId& content) const {
  const auto* training = std::get_if<Training>(&driver_.state().round.phase);
  return training != nullptr && std::ranges::any_of(training->accepted, [&](const auto& entry) {
           return entry.second.content == content;
         });
}

void Uploads::mend(const ContentId& content) {
  if (is_accepted(content) || ++damages_[content] >= damages_max) {
    driver_.tell_damaged(content, "the disk changes what is written to it");
    return driver_.broken({Errc::storage, "content " + content.hex() +
                                              ": the disk changes what is written to it: mend it, and start "
                                              "again"});
  }
  if (driver_.blobs().contains(content)) {
    // One that nodes are served: not theirs to bring.
    driver_.tell_damaged(content, "the disk changed what was stored");
    for (const effect::FetchUpdate& update : wanting(content))
      give_up(update, "the disk damaged it", Cause::here);
    return;
  }
  fetch_anew(content);
}

void Uploads::fetch_anew(const ContentId& content) {
  driver_.tell_damaged(content, "the disk changed what was uploaded: it is fetched anew");
  for (const effect::FetchUpdate& update : wanting(content)) {
    if (!links_->open(update.session))
      give_up(update, "the disk damaged it, and the node is gone", Cause::connection);
  }
  begin_next(content);
}

void Uploads::answer(const effect::FetchUpdate& update, const Inspection& inspection) {
  drop(update.task);
  if (inspection) {
    driver_.handle(event::UpdateStored{update.task, update.content, *inspection});
  } else {
    driver_.handle(event::UpdateRejected{update.task, update.content, inspection.error().reason,
                                         inspection.error().detail});
  }
}

void Uploads::give_up(const effect::FetchUpdate& update, const std::string& detail, Cause cause) {
  const event::UpdateTransferFailed failed{update.task, update.content, detail, update.session, cause};
  wanted_.erase(update.task);
  driver_.handle(failed);
}

void Uploads::erase_unreferenced(const ContentId& content) {
  const auto referenced = referenced_content(driver_.state());
  if (std::ranges::find(referenced, content) != referenced.end()) return;
  std::ignore = driver_.blobs().erase(content);  // Best effort: a restart sweeps it.
}

void Uploads::failed(SessionId session, const ContentId& content, const Error& error) {
  const auto source = fetching_.find(content);
  if (source == fetching_.end() || source->second != session) return;  // It had arrived before.
  fetching_.erase(source);
  if (error.code == Errc::storage) return driver_.broken(error);
  if (error.code == Errc::storage_full)
    driver_.no_room();  // First, so that those who wait are told to come later.
  const Cause cause = error.code == Errc::disconnected ? Cause::connection
                      : error.code == Errc::not_found  ? Cause::missing
                                                       : Cause::here;
  for (const effect::FetchUpdate& update : wanting(content)) {
    if (update.session != session) continue;
    if (error.code == Errc::too_large) {
      // The content's id covers its length: the header was wrong, and no other try makes it right.
      answer(update, std::unexpected(Refusal{Reason::too_large, error.detail}));
    } else {
      give_up(update, error.detail, cause);
    }
  }
  if (error.code != Errc::storage_full) begin_next(content);
}

void Uploads::session_over(SessionId session) {
  while (true) {
    const auto source = std::ranges::find(fetching_, session, [](const auto& entry) { return entry.second; });
    if (source == fetching_.end()) return;
    failed(session, ContentId(source->first), {Errc::disconnected, "the connection ended"});
  }
}

}  // namespace rivulet::coordinator
