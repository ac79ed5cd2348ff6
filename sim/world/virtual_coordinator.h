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

/// What a virtual coordinator computes with; all of it outlives the coordinator.
struct CoordinatorParts {
  coordinator::ModelRunner& runner;
  const coordinator::ScoringData* holdout = nullptr;  ///< Of its release: gates.
  const coordinator::ScoringData* test = nullptr;     ///< Is reported.
  std::size_t threads = 1;                            ///< That share an aggregation.
  std::shared_ptr<ContentPool> pool = nullptr;        ///< As MemoryDisk has it.
};

/// The coordinator of the virtual world: the real core, sessions, aggregation and publication, on a
/// virtual disk.
class VirtualCoordinator final : public Machine {
 public:
  VirtualCoordinator(EventLoop& loop, Faults& faults, const Limits& limits, coordinator::Config config,
                     const SecretKey& key, CoordinatorParts parts, SeededBug bug, CoordinatorWitness witness);
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
  /// Content bytes that went to, and came from, nodes since the world began.
  [[nodiscard]] std::uint64_t sent_bytes() const { return sent_bytes_; }
  [[nodiscard]] std::uint64_t received_bytes() const { return received_bytes_; }

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
  void carry_out(coordinator::effect::ServeTrust& effect);
  void carry_out(coordinator::effect::EraseContent& effect);
  void carry_out(coordinator::effect::Reply&) {}
  void carry_out(coordinator::effect::Notice& effect);

  const Limits& limits_;
  const coordinator::Config config_;
  const SecretKey& key_;
  const SeededBug bug_;
  CoordinatorWitness witness_;
  const CoordinatorParts parts_;
  bool bug_done_ = false;
  std::uint64_t sent_bytes_ = 0;
  std::uint64_t received_bytes_ = 0;

  // The process:
  std::unique_ptr<Store> store_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<core::CreditPool> credit_;
  std::unique_ptr<VerifiedParts> verified_;
  std::optional<coordinator::State> state_;
  std::vector<SignedTrust> trust_chain_;  // What is durable of it.
  std::unique_ptr<DurableSteps<coordinator::Effect>> steps_;
  std::map<coordinator::SessionId, std::shared_ptr<Connection>> connections_;
  std::map<TaskId, coordinator::effect::FetchUpdate> fetches_;
  std::map<TaskId, int> offers_;
  coordinator::SessionId next_session_ = 1;
  MonotonicTime wake_{};
};

}  // namespace rivulet::sim
