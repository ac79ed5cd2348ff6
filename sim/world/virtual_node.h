#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "link/session_host.h"
#include "node/core/agent.h"
#include "node/core/enrolment.h"
#include "node/work/tasks.h"
#include "protocol/codec/codec.h"
#include "protocol/keys.h"
#include "protocol/token.h"
#include "sim/world/device.h"
#include "sim/world/machine.h"
#include "sim/world/virtual_link.h"

namespace rivulet::sim {

/// What a virtual node tells the world, for its checks; what is empty is not told.
struct NodeWitness {
  /// Trained: the encoded delta is stored under this content id.
  std::function<void(const ContentId& content, Codec codec, ByteSpan wire, std::uint64_t samples)> on_trained;
  std::function<void(const TaskId& task)> on_accepted_receipt;
};

/// A node of the virtual world: the real agent, sessions and stores' contracts, on a virtual disk. Enrols by
/// token at its first start.
class VirtualNode final : public Machine, private SessionOwner {
 public:
  /// @return the node's end of a new connection; nothing while the coordinator is down.
  using Dial = std::function<std::shared_ptr<VirtualLink>(VirtualNode&)>;

  /// @param counts of the samples that the device holds. @param pool as MemoryDisk has it.
  VirtualNode(EventLoop& loop, Faults& faults, const Limits& limits, std::uint64_t seed, JoinToken token,
              std::unique_ptr<Device> device, node::event::SampleCounts counts, Dial dial,
              NodeWitness witness, std::shared_ptr<ContentPool> pool = nullptr);
  ~VirtualNode() override;

  [[nodiscard]] const PublicKey& key() const { return key_.public_key(); }
  /// The key that the coordinator will prove by TLS; set before boot().
  PublicKey coordinator_key;

  /// Nothing while it is down or has not joined.
  [[nodiscard]] const node::State* state() const { return state_ ? &*state_ : nullptr; }
  [[nodiscard]] VersionNumber serves() const { return serving_ ? serving_version_ : 0; }

 private:
  struct Training;

  void start() override;
  void stop() override;
  void run_agent();
  void handle(node::Event event);
  void wake_at_deadline();
  void dial(std::uint64_t connection);
  void drop_connection();
  void tell_disconnected(Errc code, const std::string& why);
  void meet_network_faults();
  void fetch_done(const ContentId& content);
  void finish_training(Training& training);
  void fail_task(const TaskId& task);

  void carry_out(node::effect::Connect& effect);
  void carry_out(node::effect::Disconnect& effect);
  void carry_out(node::effect::Send& effect);
  void carry_out(node::effect::Fetch& effect);
  void carry_out(node::effect::DropContent& effect);
  void carry_out(node::effect::Train& effect);
  void carry_out(node::effect::Evaluate& effect);
  void carry_out(node::effect::StopTask& effect);
  void carry_out(node::effect::SealUpdate& effect);
  void carry_out(node::effect::SealReport& effect);
  void carry_out(node::effect::Activate& effect);
  void carry_out(node::effect::Unload& effect);
  void carry_out(node::effect::Notice&) {}

  void write_frame(Bytes frame) override;
  void deliver(Message message) override;
  void finish_fetch(const ContentId& content) override;
  void fetch_failed(const ContentId& content, Error error) override;
  std::optional<ChunkList> chunk_list(const ContentId& content) override;
  void count_sent(std::uint64_t) override {}
  void count_received(std::uint64_t) override {}
  void closed(Reason reason, const std::string& detail) override;

  const Limits& limits_;
  const std::uint64_t seed_;
  const JoinToken token_;
  const SecretKey key_;
  const std::unique_ptr<Device> device_;
  const node::event::SampleCounts counts_;
  Dial dial_;
  NodeWitness witness_;

  // The process:
  std::unique_ptr<Store> store_;
  std::shared_ptr<BlobStore> blobs_;  // Shared with computations, which may outlive the process.
  std::unique_ptr<core::CreditPool> credit_;
  std::unique_ptr<VerifiedParts> parts_;
  std::optional<node::Enrolment> enrolment_;
  std::optional<node::State> state_;
  std::unique_ptr<DurableSteps<node::Effect>> steps_;
  std::shared_ptr<VirtualLink> link_;
  std::unique_ptr<SessionHost> session_;
  std::uint64_t connection_ = 0;
  std::optional<node::effect::Fetch> fetch_;
  std::map<TaskId, std::shared_ptr<Training>> trainings_;  // Each shared with its computation.
  std::shared_ptr<const node::Activation> serving_;        // Shared with activations that compare with it.
  VersionNumber serving_version_ = 0;
  MonotonicTime wake_{};
};

}  // namespace rivulet::sim
