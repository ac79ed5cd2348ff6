#include "sim/world/virtual_coordinator.h"

#include "coordinator/work/served_content.h"
#include "coordinator/work/update_inspection.h"
#include "protocol/documents.h"

namespace rivulet::sim {

using namespace std::chrono_literals;
namespace effect = coordinator::effect;
namespace event = coordinator::event;

/// One node's connection, and the session on it.
class VirtualCoordinator::Connection final : public SessionOwner {
 public:
  Connection(VirtualCoordinator& owner, coordinator::SessionId id, const PublicKey& peer,
             std::shared_ptr<VirtualLink> link)
      : owner_(owner),
        id_(id),
        peer_(peer),
        link_(std::move(link)),
        session_(core::Role::coordinator, owner.limits_, *owner.credit_, *owner.blobs_, *owner.verified_,
                 *this, owner.now()) {}

  SessionHost& session() { return session_; }
  VirtualLink& link() { return *link_; }

  void write_frame(Bytes frame) override { link_->send(Side::coordinator, std::move(frame)); }
  void deliver(Message message) override;
  void finish_fetch(const ContentId& content) override;
  void fetch_failed(const ContentId& content, Error error) override;
  std::optional<ChunkList> chunk_list(const ContentId& content) override {
    if (!owner_.state_ || !coordinator::may_serve(*owner_.state_, content)) return std::nullopt;
    auto list = hash_blob(*owner_.blobs_, content);
    if (!list || list->id() != content) return std::nullopt;
    return *list;
  }
  void count_sent(std::uint64_t bytes) override { owner_.sent_bytes_ += bytes; }
  void count_received(std::uint64_t bytes) override { owner_.received_bytes_ += bytes; }
  void closed(Reason, const std::string&) override {
    link_->close(Side::coordinator);
    // The session may be what is running: let it finish first.
    owner_.loop_.after({}, owner_.guarded([&owner = owner_, id = id_] {
      if (owner.connections_.erase(id) != 0) owner.handle(event::SessionClosed{id});
    }));
  }

 private:
  VirtualCoordinator& owner_;
  coordinator::SessionId id_;
  PublicKey peer_;
  std::shared_ptr<VirtualLink> link_;
  SessionHost session_;
};

void VirtualCoordinator::Connection::deliver(Message message) {
  std::visit(
      [&]<typename T>(T& value) {
        if constexpr (std::is_same_v<T, message::Hello>)
          owner_.handle(event::HelloReceived{id_, peer_, value});
        if constexpr (std::is_same_v<T, message::Enrol>)
          owner_.handle(event::EnrolReceived{id_, peer_, value});
        if constexpr (std::is_same_v<T, message::Ready>) owner_.handle(event::ReadyReceived{id_, value});
        if constexpr (std::is_same_v<T, message::Offer>) {
          const auto header = decode_update_header(value.header.payload);
          if (header) ++owner_.offers_[header->task];
          owner_.handle(event::OfferReceived{id_, value.header});
        }
        if constexpr (std::is_same_v<T, message::Evaluation>)
          owner_.handle(event::EvaluationReceived{id_, value.report});
        if constexpr (std::is_same_v<T, message::Declined>)
          owner_.handle(event::DeclinedReceived{id_, value});
        if constexpr (std::is_same_v<T, message::Telemetry>)
          owner_.handle(event::TelemetryReceived{id_, value});
        if constexpr (std::is_same_v<T, message::Activation>)
          owner_.handle(event::ActivationReceived{id_, value});
        if constexpr (std::is_same_v<T, message::TrustRequest>) {
          const message::TrustChain chain{trust_chain_from(owner_.trust_chain_, value.from_version)};
          session_.send(chain, owner_.now());
        }
      },
      message);
}

void VirtualCoordinator::Connection::finish_fetch(const ContentId& content) {
  owner_.work(20ms, [&owner = owner_, content] {
    const auto* update = owner.awaited(content);
    if (update == nullptr) return;
    if (owner.faults_.crash_at("coordinator before finishing an upload")) return owner.crash_soon();
    if (const auto status = owner.blobs_->finish_part(content); !status) {
      return owner.handle(event::UpdateTransferFailed{update->task, content, status.error().detail});
    }
    if (owner.faults_.crash_at("coordinator after finishing an upload")) return owner.crash_soon();
    owner.inspect(*update);
  });
}

void VirtualCoordinator::Connection::fetch_failed(const ContentId& content, Error error) {
  owner_.loop_.after({}, owner_.guarded([&owner = owner_, id = id_, content, error] {
    if (const auto* update = owner.awaited(content)) {
      owner.handle(event::UpdateTransferFailed{update->task, content, error.detail, id});
    }
  }));
}

// ---- The process -----------------------------------------------------------------------------------

VirtualCoordinator::VirtualCoordinator(EventLoop& loop, Faults& faults, const Limits& limits,
                                       coordinator::Config config, const SecretKey& key,
                                       CoordinatorParts parts, SeededBug bug, CoordinatorWitness witness)
    : Machine(loop, faults, "coordinator", parts.pool),
      limits_(limits),
      config_(std::move(config)),
      key_(key),
      bug_(bug),
      witness_(std::move(witness)),
      parts_(std::move(parts)) {}

VirtualCoordinator::~VirtualCoordinator() = default;

Status VirtualCoordinator::found(const SignedTrust& trust, std::uint64_t seed) {
  const auto store = make_memory_store(disk_, coordinator::families);
  const auto writes = coordinator::found_fleet(trust, seed, now());
  if (!writes) return std::unexpected(writes.error());
  return store->commit(*writes, Durability::synced);
}

void VirtualCoordinator::start() {
  disk_.lie_about_sync(bug_ == SeededBug::lying_disk);
  store_ = make_memory_store(disk_, coordinator::families);
  blobs_ = make_memory_blob_store(disk_);
  credit_ = std::make_unique<core::CreditPool>(limits_.transfer_memory);
  verified_ = std::make_unique<VerifiedParts>();
  auto state = coordinator::recover(config_, *store_, now());
  RIVULET_ASSERT(state);
  state_ = std::move(*state);
  trust_chain_ = state_->trust_chain;
  steps_ = start_steps<coordinator::Effect>(
      *store_, *blobs_, coordinator::referenced_content(*state_),
      {.carry_out =
           [this](coordinator::Effect& effect) {
             std::visit([this](auto& value) { carry_out(value); }, effect);
           },
       .on_full = [this](bool full) { handle(event::StorageState{full, false}); },
       .before_commit =
           [this](WriteBatch& batch) {
             if (witness_.on_commit) witness_.on_commit(*store_, batch);
             plant_bug(batch);
           }});
  auto transition = coordinator::resume(*state_, now());
  steps_->push(std::move(transition.writes), std::move(transition.effects));
  wake_at_deadline();
}

void VirtualCoordinator::stop() {
  for (const auto& [id, connection] : connections_)
    connection->link().cut(faults_.delay(10s), MonotonicTime(-1));
  connections_.clear();
  fetches_.clear();
  steps_.reset();
  state_.reset();
  store_.reset();
  blobs_.reset();
  wake_ = {};
}

std::shared_ptr<VirtualLink> VirtualCoordinator::accept(const PublicKey& peer, const LinkSpeed& speed) {
  if (!up()) return nullptr;
  const coordinator::SessionId id = next_session_++;
  auto link = std::make_shared<VirtualLink>(loop_, speed);
  auto connection = std::make_shared<Connection>(*this, id, peer, link);
  connections_[id] = connection;
  const auto if_current = [this, id](auto action) {
    return [this, id, action, generation = generation_](auto... args) {
      if (generation != generation_) return;
      const auto found = connections_.find(id);
      if (found == connections_.end()) return;
      action(*std::shared_ptr<Connection>(found->second), args...);
    };
  };
  link->attach(Side::coordinator,
               {.on_frame = if_current([this](Connection& self, ByteSpan frame) {
                  self.session().on_frame(frame, now());
                  wake_at_deadline();
                }),
                .on_writable = if_current([this](Connection& self) { self.session().on_writable(now()); }),
                .on_closed = if_current([](Connection& self) { self.closed(Reason::none, ""); })});
  // The first frame, once the node's end of the connection stands.
  loop_.after(20ms, guarded([this, id] {
                const auto found = connections_.find(id);
                if (found == connections_.end()) return;
                const message::TrustChain chain{{trust_chain_.back()}};
                std::shared_ptr<Connection>(found->second)->session().send(chain, now());
                wake_at_deadline();
              }));
  return link;
}

void VirtualCoordinator::handle(coordinator::Event event) {
  if (!state_) return;
  auto transition = coordinator::step(*state_, event, now());
  if (steps_->committing() && coordinator::may_overtake(*state_, transition)) {
    for (coordinator::Effect& effect : transition.effects)
      std::visit([this](auto& value) { carry_out(value); }, effect);
  } else {
    steps_->push(std::move(transition.writes), std::move(transition.effects));
  }
  wake_at_deadline();
}

void VirtualCoordinator::wake_at_deadline() {
  auto next = coordinator::next_deadline(*state_).value_or(MonotonicTime::max());
  for (const auto& [id, connection] : connections_)
    next = std::min(next, connection->session().next_deadline());
  if (next == MonotonicTime::max()) return;
  const MonotonicTime at = std::max(loop_time(next), loop_.now() + 1ms);
  if (wake_ > loop_.now() && wake_ <= at) return;
  wake_ = at;
  loop_.at(at, guarded([this, at] {
             if (wake_ != at) return;
             wake_ = {};
             const auto connections = connections_;
             for (const auto& [id, connection] : connections) connection->session().on_time(now());
             handle(event::Tick{});
           }));
}

void VirtualCoordinator::work(MonotonicTime most, std::function<void()> action) {
  loop_.after(faults_.delay(most), guarded(std::move(action)));
}

const effect::FetchUpdate* VirtualCoordinator::awaited(const ContentId& content) const {
  for (const auto& [task, update] : fetches_) {
    if (update.content == content) return &update;
  }
  return nullptr;
}

void VirtualCoordinator::inspect(const effect::FetchUpdate& update) {
  const auto& release = state_->registry.releases.at(update.release).release;
  const auto inspection = coordinator::inspect_update(update, release.layout, *blobs_);
  if (!inspection) return crash_soon();  // As the daemon does.
  const effect::FetchUpdate done = update;
  fetches_.erase(done.task);
  if (*inspection) {
    handle(event::UpdateStored{done.task, done.content, **inspection});
  } else {
    const coordinator::Refusal& refusal = inspection->error();
    std::ignore = blobs_->erase(done.content);  // Best effort: a restart sweeps it.
    handle(event::UpdateRejected{done.task, done.content, refusal.reason, refusal.detail});
  }
}

void VirtualCoordinator::plant_bug(WriteBatch& batch) {
  if (bug_ != SeededBug::forgotten_update || bug_done_) return;
  for (auto write = batch.begin(); write != batch.end(); ++write) {
    const auto* put = std::get_if<Put>(&*write);
    if (put == nullptr || put->family != "updates") continue;
    batch.erase(write);
    bug_done_ = true;
    return;
  }
}

// ---- Effects ---------------------------------------------------------------------------------------

void VirtualCoordinator::carry_out(effect::Send& effect) {
  const auto found = connections_.find(effect.session);
  if (found == connections_.end()) return;
  std::shared_ptr<Connection>(found->second)->session().send(std::move(effect.message), now());
}

void VirtualCoordinator::carry_out(effect::SendWelcome& effect) {
  const auto found = connections_.find(effect.session);
  if (found == connections_.end()) return;
  const SignedTime time{state_->trust.fleet, now().utc};
  const message::Welcome welcome{effect.protocol, seal(key_, Context::time, encode(time)),
                                 effect.heartbeat_seconds};
  std::shared_ptr<Connection>(found->second)->session().send(welcome, now());
}

void VirtualCoordinator::carry_out(effect::Close& effect) {
  const auto found = connections_.find(effect.session);
  if (found == connections_.end()) return;
  std::shared_ptr<Connection>(found->second)->session().close(effect.reason, effect.detail, now());
}

void VirtualCoordinator::carry_out(effect::FetchUpdate& effect) {
  fetches_[effect.task] = effect;
  if (blobs_->contains(effect.content)) {
    return work(1ms, [this, task = effect.task] {
      if (const auto update = fetches_.find(task); update != fetches_.end()) {
        const effect::FetchUpdate copy = update->second;
        inspect(copy);
      }
    });
  }
  const auto found = connections_.find(effect.session);
  if (found == connections_.end()) return;
  std::shared_ptr<Connection>(found->second)->session().fetch(effect.content, effect.bytes, now());
  wake_at_deadline();
}

void VirtualCoordinator::carry_out(effect::DropFetch& effect) { fetches_.erase(effect.task); }

void VirtualCoordinator::carry_out(effect::Aggregate& effect) {
  work(1s, [this, task = effect]() mutable {
    if (bug_ == SeededBug::double_count) {
      for (auto& entry : task.entries) {
        if (offers_[entry.task] > 1) entry.weight *= 2;
      }
    }
    const auto& release = state_->registry.releases.at(task.release).release;
    auto built = coordinator::build_candidate(task, release, key_, parts_.threads, *blobs_);
    if (faults_.crash_at("coordinator after aggregation")) return crash_soon();
    if (built) {
      handle(event::Aggregated{task.round, task.attempt, std::move(*built)});
    } else if (built.error().code == Errc::storage) {
      crash_soon();  // As the daemon does.
    } else {
      handle(event::AggregationFailed{task.round, task.attempt, built.error()});
    }
  });
}

void VirtualCoordinator::carry_out(effect::ScoreCandidate& effect) {
  work(1s, [this, task = effect] {
    const auto& release = state_->registry.releases.at(task.release).release;
    auto scored =
        coordinator::score_candidate(task, release, parts_.holdout, parts_.test, parts_.runner, *blobs_);
    if (!scored) return crash_soon();
    handle(std::move(*scored));
  });
}

void VirtualCoordinator::carry_out(effect::SealVersion& effect) {
  work(1s, [this, task = effect] {
    const auto* pending = state_->registry.pending ? &*state_->registry.pending : nullptr;
    const bool importing = pending != nullptr && pending->release.id == task.manifest.release;
    const auto& release =
        importing ? pending->release.release : state_->registry.releases.at(task.manifest.release).release;
    std::vector<ContentId> stored;
    auto sealed = coordinator::seal_version(task, release, {.holdout = parts_.holdout, .test = parts_.test},
                                            key_, parts_.runner, *blobs_, stored);
    if (faults_.crash_at("coordinator after sealing a version")) return crash_soon();
    if (sealed) {
      handle(std::move(*sealed));
    } else if (sealed.error().code == Errc::storage) {
      crash_soon();
    } else {
      handle(event::PublicationFailed{task.manifest.manifest_version, sealed.error(), stored});
    }
  });
}

void VirtualCoordinator::carry_out(effect::ServeTrust& effect) {
  trust_chain_.push_back(std::move(effect.trust));
}

void VirtualCoordinator::carry_out(effect::EraseContent& effect) {
  std::ignore = blobs_->erase(effect.content);  // Best effort: a restart sweeps what is left.
  std::ignore = blobs_->erase_part(effect.content);
}

void VirtualCoordinator::carry_out(effect::Notice& effect) {
  ++notices[effect.reason.empty() ? effect.event : effect.event + " " + effect.reason];
}

}  // namespace rivulet::sim
