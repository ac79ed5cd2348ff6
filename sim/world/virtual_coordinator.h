#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "coordinator/core/coordinator.h"
#include "coordinator/work/publication.h"
#include "link/session_host.h"
#include "protocol/keys.h"
#include "sim/world/machine.h"
#include "sim/world/toy_model.h"
#include "sim/world/virtual_link.h"

namespace rivulet::sim {

/// Bugs that are put in on purpose, to show that the checks of a run would catch such a one.
enum class SeededBug : std::uint8_t {
  none,
  lying_disk,        ///< The coordinator's disk reports syncs that it did not do.
  forgotten_update,  ///< One accepted update is not written, though its receipt goes out.
  double_count,      ///< An update that was offered twice weighs twice.
};

/// What the virtual coordinator tells the world, for its checks.
struct CoordinatorWitness {
  /// A batch is about to become durable, and has become so.
  std::function<void(const Store& store, const WriteBatch& batch)> on_commit;
};

/// The coordinator of the virtual world: the real core, sessions, aggregation and publication, on a
/// virtual disk, with a toy model.
class VirtualCoordinator final : public Machine {
 public:
  VirtualCoordinator(EventLoop& loop, Faults& faults, const Limits& limits, coordinator::Config config,
                     const SecretKey& key, SeededBug bug, CoordinatorWitness witness);
  ~VirtualCoordinator() override;

  /// Before the first boot: what `init` writes.
  Status found(const SignedTrust& trust, std::uint64_t seed);
  /// A node dials. @return nothing while the process is down.
  std::shared_ptr<VirtualLink> accept(const PublicKey& peer, const LinkSpeed& speed);
  /// An admin command; ignored while the process is down.
  void command(coordinator::Event event) { handle(std::move(event)); }

  /// Nothing while it is down.
  [[nodiscard]] const coordinator::State* state() const { return state_ ? &*state_ : nullptr; }
  [[nodiscard]] BlobStore* blobs() { return blobs_.get(); }
  [[nodiscard]] Store* store() { return store_.get(); }

  std::map<std::string, std::uint64_t> notices;  ///< By event and reason.

 private:
  class Connection;

  void start() override;
  void stop() override;
  void handle(coordinator::Event event);
  void wake_at_deadline();
  void work(MonotonicTime most, std::function<void()> action);
  void inspect(const coordinator::effect::FetchUpdate& update);
  const coordinator::effect::FetchUpdate* awaited(const ContentId& content) const;
  void plant_bug(WriteBatch& batch);

  void carry_out(coordinator::effect::Send& effect);
  void carry_out(coordinator::effect::SendWelcome& effect);
  void carry_out(coordinator::effect::Close& effect);
  void carry_out(coordinator::effect::FetchUpdate& effect);
  void carry_out(coordinator::effect::DropFetch& effect);
  void carry_out(coordinator::effect::Aggregate& effect);
  void carry_out(coordinator::effect::ScoreCandidate& effect);
  void carry_out(coordinator::effect::SealVersion& effect);
  void carry_out(coordinator::effect::EraseContent& effect);
  void carry_out(coordinator::effect::Reply&) {}
  void carry_out(coordinator::effect::Notice& effect);

  const Limits& limits_;
  const coordinator::Config config_;
  const SecretKey& key_;
  const SeededBug bug_;
  CoordinatorWitness witness_;
  ToyRunner runner_;
  bool bug_done_ = false;

  // The process:
  std::unique_ptr<Store> store_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<core::CreditPool> credit_;
  std::optional<coordinator::State> state_;
  std::unique_ptr<DurableSteps<coordinator::Effect>> steps_;
  std::map<coordinator::SessionId, std::shared_ptr<Connection>> connections_;
  std::map<TaskId, coordinator::effect::FetchUpdate> fetches_;
  std::map<TaskId, int> offers_;
  coordinator::SessionId next_session_ = 1;
  MonotonicTime wake_{};
};

}  // namespace rivulet::sim
