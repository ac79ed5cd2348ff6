#include "sim/world/virtual_node.h"

#include "node/core/records.h"
#include "protocol/codec/codec.h"
#include "protocol/envelope.h"

namespace rivulet::sim {
namespace {

using namespace std::chrono_literals;

SecretKey key_of(std::uint64_t seed) {
  std::array<std::byte, 32> bytes{};
  Rng rng(derive_seed(seed, 77));
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  return SecretKey::from_seed(bytes);
}

std::vector<std::string> node_families() { return {node::families.begin(), node::families.end()}; }

}  // namespace

/// A training that was begun; its computation may run on another thread.
struct VirtualNode::Training {
  node::effect::Train task;
  std::shared_ptr<BlobStore> blobs;
  std::atomic<bool> stop{false};
  std::optional<node::Event> answer;
};

VirtualNode::VirtualNode(EventLoop& loop, Faults& faults, const Limits& limits, std::uint64_t seed,
                         JoinToken token, std::unique_ptr<Device> device, node::event::SampleCounts counts,
                         Dial dial, NodeWitness witness, std::shared_ptr<ContentPool> pool)
    : Machine(loop, faults, "node", std::move(pool)),
      limits_(limits),
      seed_(seed),
      token_(std::move(token)),
      key_(key_of(seed)),
      device_(std::move(device)),
      counts_(counts),
      dial_(std::move(dial)),
      witness_(std::move(witness)) {}

VirtualNode::~VirtualNode() = default;

// ---- The process -----------------------------------------------------------------------------------

void VirtualNode::start() {
  store_ = make_memory_store(disk_, node_families());
  blobs_ = make_memory_blob_store(disk_);
  credit_ = std::make_unique<core::CreditPool>(limits_.transfer_memory);
  parts_ = std::make_unique<VerifiedParts>();
  const auto document = store_->last("trust");
  RIVULET_ASSERT(document);
  if (*document) return run_agent();
  enrolment_.emplace(token_, "virtual");
  dial(1);
}

void VirtualNode::run_agent() {
  std::vector<Put> records;
  for (const std::string& family : node_families()) {
    const auto status = visit_records(*store_, family, [&](ByteSpan key, ByteSpan value) {
      records.push_back({family, copy_of(key), copy_of(value)});
    });
    RIVULET_ASSERT(status);
  }
  const node::Config config{.node = key(), .root = token_.root, .software = "virtual"};
  auto state = node::recover(config, derive_seed(seed_, generation_), records);
  RIVULET_ASSERT(state);
  state_ = std::move(*state);
  steps_ = start_steps<node::Effect>(
      *store_, *blobs_, node::referenced_contents(*state_),
      {.carry_out =
           [this](node::Effect& effect) { std::visit([this](auto& value) { carry_out(value); }, effect); },
       .on_full = {},
       .before_commit = {}});
  auto transition = node::start(*state_, now());
  steps_->push(std::move(transition.writes), std::move(transition.effects));
  handle(counts_);
}

void VirtualNode::stop() {
  if (link_) link_->cut(MonotonicTime(-1), faults_.delay(10s));
  link_.reset();
  session_.reset();
  steps_.reset();
  state_.reset();
  enrolment_.reset();
  serving_.reset();
  trainings_.clear();
  fetch_.reset();
  store_.reset();
  blobs_.reset();
  wake_ = {};
}

void VirtualNode::handle(node::Event event) {
  if (enrolment_) {
    for (node::Effect& effect : enrolment_->step(event, now())) {
      std::visit([this](auto& value) { carry_out(value); }, effect);
    }
    if (const auto* done = std::get_if<node::Enrolment::Done>(&enrolment_->outcome())) {
      const WriteBatch writes{node::record_of(done->document)};
      if (!store_->commit(writes, Durability::synced)) return crash_soon();
      enrolment_.reset();
      loop_.after({}, guarded([this] { run_agent(); }));
    } else if (std::holds_alternative<node::Enrolment::Failed>(enrolment_->outcome())) {
      enrolment_.reset();
      loop_.after(1s + faults_.delay(5s), guarded([this] {
                    enrolment_.emplace(token_, "virtual");
                    dial(1);
                  }));
    }
    return wake_at_deadline();
  }
  if (!state_) return;
  auto transition = node::step(*state_, event, now());
  steps_->push(std::move(transition.writes), std::move(transition.effects));
  wake_at_deadline();
}

void VirtualNode::wake_at_deadline() {
  auto next = MonotonicTime::max();
  if (state_) next = node::next_deadline(*state_).value_or(next);
  if (enrolment_) next = enrolment_->next_deadline().value_or(next);
  if (session_) next = std::min(next, session_->next_deadline());
  if (next == MonotonicTime::max()) return;
  const MonotonicTime at = std::max(loop_time(next), loop_.now() + 1ms);
  if (wake_ > loop_.now() && wake_ <= at) return;
  wake_ = at;
  loop_.at(at, guarded([this, at] {
             if (wake_ != at) return;
             wake_ = {};
             if (session_) session_->on_time(now());
             handle(node::event::Tick{});
           }));
}

// ---- The connection --------------------------------------------------------------------------------

void VirtualNode::dial(std::uint64_t connection) {
  drop_connection();
  connection_ = connection;
  link_ = dial_(*this);
  if (!link_) {
    loop_.after(100ms, guarded([this, connection] {
                  if (connection_ == connection) tell_disconnected(Errc::disconnected, "nobody answers");
                }));
    return;
  }
  SessionOwner& self = *this;
  session_ =
      std::make_unique<SessionHost>(core::Role::node, limits_, *credit_, *blobs_, *parts_, self, now());
  const auto if_current = [this, connection](auto action) {
    return [this, connection, action, generation = generation_](auto... args) {
      if (generation == generation_ && connection == connection_ && session_) action(args...);
    };
  };
  link_->attach(Side::node, {.on_frame = if_current([this](ByteSpan frame) {
                               session_->on_frame(frame, now());
                               wake_at_deadline();
                             }),
                             .on_writable = if_current([this] { session_->on_writable(now()); }),
                             .on_closed = if_current([this] { closed(Reason::none, "the network broke"); })});
  loop_.after(20ms, guarded([this, connection] {
                if (connection_ == connection) handle(node::event::Connected{connection, coordinator_key});
              }));
  wake_at_deadline();
}

void VirtualNode::drop_connection() {
  if (link_) link_->close(Side::node);
  link_.reset();
  // It may be the session that is asking for its own end.
  if (session_) loop_.after({}, [old = std::shared_ptr<SessionHost>(std::move(session_))] {});
}

void VirtualNode::tell_disconnected(Errc code, const std::string& why) {
  handle(node::event::Disconnected{connection_, {code, why}});
}

void VirtualNode::write_frame(Bytes frame) {
  if (!link_) return;
  link_->send(Side::node, std::move(frame));
  meet_network_faults();
}

void VirtualNode::meet_network_faults() {
  const FaultRates& rates = faults_.rates();
  if (faults_.fire("cut", rates.cut)) link_->cut(faults_.delay(5s), faults_.delay(5s));
  if (faults_.fire("half-open link", rates.half_open)) {
    const bool node_learns = uniform_below(faults_.rng(), 2) == 0;
    const MonotonicTime never(-1), soon = faults_.delay(5s);
    link_->cut(node_learns ? soon : never, node_learns ? never : soon);
  }
  if (faults_.fire("stall", rates.stall)) {
    const Side side = uniform_below(faults_.rng(), 2) == 0 ? Side::node : Side::coordinator;
    link_->stall(side, loop_.now() + faults_.delay(120s));
  }
  if (faults_.fire("replaced session", rates.abandon)) {
    // The node takes the connection for dead and dials anew, while what it sent is still on its way.
    link_->attach(Side::node, {});
    loop_.after({}, guarded([this, connection = connection_] {
                  if (connection == connection_ && session_) {
                    link_.reset();
                    closed(Reason::none, "given up");
                  }
                }));
  }
}

void VirtualNode::deliver(Message message) {
  if (const auto* receipt = std::get_if<message::Receipt>(&message)) {
    const auto* entry =
        state_ && state_->outbox.contains(receipt->task) ? &state_->outbox.at(receipt->task) : nullptr;
    // Reports get receipts too, but no verdict.
    const bool update = entry != nullptr && entry->kind == node::OutboxEntry::Kind::update;
    if (update && receipt->outcome == message::ReceiptOutcome::accepted && witness_.on_accepted_receipt) {
      witness_.on_accepted_receipt(receipt->task);
    }
  }
  handle(node::event::MessageReceived{connection_, std::move(message)});
}

void VirtualNode::closed(Reason, const std::string& detail) {
  drop_connection();
  loop_.after({}, guarded([this, connection = connection_, detail] {
                if (connection == connection_) tell_disconnected(Errc::disconnected, detail);
              }));
}

std::optional<ChunkList> VirtualNode::chunk_list(const ContentId& content) {
  if (!state_) return std::nullopt;
  for (const auto& [task, entry] : state_->outbox) {
    if (entry.content != content) continue;
    auto list = hash_blob(*blobs_, content);
    if (list && list->id() == content) return *list;
  }
  return std::nullopt;
}

void VirtualNode::finish_fetch(const ContentId& content) {
  loop_.after(faults_.delay(20ms), guarded([this, content] {
                if (faults_.crash_at(name_ + " before finishing a download")) return crash_soon();
                const auto status = blobs_->finish_part(content);
                if (!status) return fetch_failed(content, status.error());
                if (faults_.crash_at(name_ + " after finishing a download")) return crash_soon();
                fetch_done(content);
              }));
}

void VirtualNode::fetch_done(const ContentId& content) {
  if (!fetch_ || fetch_->content != content) return;
  node::event::ContentReceived received{content, {}};
  if (fetch_->want_bytes) received.bytes = blobs_->read_all(content).value();
  fetch_.reset();
  handle(std::move(received));
}

void VirtualNode::fetch_failed(const ContentId& content, Error error) {
  loop_.after({}, guarded([this, content, error] {
                if (fetch_ && fetch_->content == content) handle(node::event::ContentFailed{content, error});
              }));
}

// ---- Effects ---------------------------------------------------------------------------------------

void VirtualNode::carry_out(node::effect::Connect& effect) { dial(effect.connection); }

void VirtualNode::carry_out(node::effect::Disconnect& effect) {
  if (enrolment_ || effect.connection == connection_) drop_connection();
}

void VirtualNode::carry_out(node::effect::Send& effect) {
  if ((enrolment_ || effect.connection == connection_) && session_) {
    session_->send(std::move(effect.message), now());
    wake_at_deadline();
  }
}

void VirtualNode::carry_out(node::effect::Fetch& effect) {
  fetch_ = effect;
  if (blobs_->contains(effect.content)) {
    loop_.after({}, guarded([this, content = effect.content] { fetch_done(content); }));
  } else if (session_) {
    session_->fetch(effect.content, effect.max_bytes, now());
    wake_at_deadline();
  }
}

void VirtualNode::carry_out(node::effect::DropContent& effect) {
  std::ignore = blobs_->erase(effect.content);  // Best effort: a restart sweeps what is left.
  std::ignore = blobs_->erase_part(effect.content);
}

void VirtualNode::carry_out(node::effect::Train& effect) {
  const auto training = std::make_shared<Training>();
  training->task = effect;
  training->blobs = blobs_;
  trainings_[effect.task] = training;
  const MonotonicTime length = device_->training_time(effect);
  const auto end = device_->begin([training, &engine = device_->engine()] {
    training->answer = node::run_training(training->task, *training->blobs, engine, training->stop);
  });
  loop_.after(length, guarded([this, training, end] {
                end();
                trainings_.erase(training->task.task);
                finish_training(*training);
              }));
}

void VirtualNode::finish_training(Training& training) {
  if (!training.answer) return;
  const auto* done = std::get_if<node::event::TrainingDone>(&*training.answer);
  if (training.stop && !device_->answers_late()) {
    if (done != nullptr) std::ignore = blobs_->erase(done->content);  // Best effort: nothing refers to it.
    return;
  }
  if (faults_.fire("training fails", faults_.rates().task_failure)) {
    if (done != nullptr) std::ignore = blobs_->erase(done->content);  // Best effort: nothing refers to it.
    return fail_task(training.task.task);
  }
  if (done != nullptr && witness_.on_trained) {
    const auto wire = blobs_->read_all(done->content);
    RIVULET_ASSERT(wire);
    witness_.on_trained(done->content, *codec_from_number(training.task.plan.codec), *wire,
                        done->sample_count);
  }
  if (faults_.crash_at(name_ + " after training")) return crash_soon();
  handle(std::move(*training.answer));
}

void VirtualNode::fail_task(const TaskId& task) {
  handle(node::event::TaskFailed{task, Reason::training_failed, "the virtual device failed"});
}

void VirtualNode::carry_out(node::effect::Evaluate& effect) {
  struct Evaluation {
    node::effect::Evaluate task;
    std::shared_ptr<BlobStore> blobs;
    std::optional<node::Event> answer;
  };
  const auto evaluation = std::make_shared<Evaluation>(effect, blobs_, std::nullopt);
  const MonotonicTime length = device_->evaluation_time(effect);
  const auto end = device_->begin([evaluation, &engine = device_->engine()] {
    evaluation->answer = node::run_evaluation(evaluation->task, *evaluation->blobs, engine);
  });
  loop_.after(length, guarded([this, evaluation, end] {
                if (faults_.crash_at(name_ + " after evaluation")) return crash_soon();
                end();
                if (faults_.fire("evaluation fails", faults_.rates().task_failure)) {
                  return fail_task(evaluation->task.task);
                }
                handle(std::move(*evaluation->answer));
              }));
}

void VirtualNode::carry_out(node::effect::StopTask& effect) {
  if (const auto found = trainings_.find(effect.task); found != trainings_.end()) found->second->stop = true;
}

void VirtualNode::carry_out(node::effect::SealUpdate& effect) {
  handle(node::event::UpdateSealed{effect.header.task, seal(key_, Context::update, encode(effect.header))});
}

void VirtualNode::carry_out(node::effect::SealReport& effect) {
  handle(
      node::event::ReportSealed{effect.report.task, seal(key_, Context::evaluation, encode(effect.report))});
}

void VirtualNode::carry_out(node::effect::Activate& effect) {
  struct Trial {
    node::effect::Activate task;
    std::shared_ptr<BlobStore> blobs;
    std::shared_ptr<const node::Activation> active;  // What serves when the trial begins.
    std::optional<Result<std::shared_ptr<const node::Activation>>> ready;
  };
  const auto trial = std::make_shared<Trial>(effect, blobs_, serving_, std::nullopt);
  const MonotonicTime length = device_->activation_time(effect);
  const auto end = device_->begin([trial, device = device_.get()] {
    trial->ready = device->prepare(trial->task, trial->active.get(), *trial->blobs);
  });
  loop_.after(
      length, guarded([this, trial, end] {
        end();
        const VersionManifest& manifest = trial->task.manifest;
        if (!*trial->ready) {
          const Error& error = trial->ready->error();
          return handle(node::event::ActivationFailed{manifest.manifest_version, error.reason, error.detail,
                                                      node::damaged_contents(*trial->blobs, manifest)});
        }
        if (!node::wants_activation(*state_, manifest.manifest_version)) {
          return handle(node::event::ActivationFailed{manifest.manifest_version, Reason::none,
                                                      "a newer assignment took it back"});
        }
        serving_ = **trial->ready;
        serving_version_ = manifest.version;
        if (faults_.crash_at(name_ + " after activation")) return crash_soon();
        handle(node::event::ActivationDone{manifest.manifest_version});
      }));
}

void VirtualNode::carry_out(node::effect::Unload&) { serving_.reset(); }

}  // namespace rivulet::sim
