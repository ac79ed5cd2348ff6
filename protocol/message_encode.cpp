#include "protocol/message.h"
#include "protocol/payload.h"
#include "protocol/schema.capnp.h"

namespace rivulet {
namespace {

using payload::data;

void write(wire::Envelope::Builder out, const Envelope& envelope) {
  out.setPayload(data(ByteSpan(envelope.payload)));
  out.setSignature(data(envelope.signature));
}

template <typename Ids>
void write_ids(capnp::List<capnp::Data>::Builder out, const Ids& ids) {
  for (unsigned i = 0; i < ids.size(); ++i) out.set(i, data(ids[i]));
}

void write(wire::Message::Builder out, const message::TrustChain& in) {
  auto list = out.initTrustChain().initDocuments(static_cast<unsigned>(in.documents.size()));
  for (unsigned i = 0; i < in.documents.size(); ++i) {
    const SignedTrust& document = in.documents[i];
    list[i].setPayload(data(ByteSpan(document.payload)));
    auto signatures = list[i].initSignatures(static_cast<unsigned>(document.signatures.size()));
    for (unsigned j = 0; j < document.signatures.size(); ++j) {
      signatures[j].setKey(data(document.signatures[j].key));
      signatures[j].setSignature(data(document.signatures[j].signature));
    }
  }
}

void write(wire::Message::Builder out, const message::TrustRequest& in) {
  out.initTrustRequest().setFromVersion(in.from_version);
}

void write(wire::Message::Builder out, const message::Hello& in) {
  auto hello = out.initHello();
  hello.setProtocolMin(in.protocol_min);
  hello.setProtocolMax(in.protocol_max);
  hello.setFleet(data(in.fleet));
  hello.setSoftware(in.software);
}

void write(wire::Message::Builder out, const message::Enrol& in) {
  auto enrol = out.initEnrol();
  enrol.setProtocolMin(in.protocol_min);
  enrol.setProtocolMax(in.protocol_max);
  enrol.setFleet(data(in.fleet));
  enrol.setSoftware(in.software);
  enrol.setSecret(data(in.secret));
}

void write(wire::Message::Builder out, const message::Enrolled& in) { out.initEnrolled().setName(in.name); }

void write(wire::Message::Builder out, const message::Welcome& in) {
  auto welcome = out.initWelcome();
  welcome.setProtocol(in.protocol);
  write(welcome.initTime(), in.time);
  welcome.setHeartbeatSeconds(in.heartbeat_seconds);
}

void write(wire::Message::Builder out, const message::Refused& in) {
  auto refused = out.initRefused();
  refused.setReason(static_cast<std::uint16_t>(in.reason));
  refused.setDetail(in.detail);
}

void write(wire::Message::Builder out, const message::Backoff& in) {
  auto backoff = out.initBackoff();
  backoff.setReason(static_cast<std::uint16_t>(in.reason));
  backoff.setRetryAfterMs(in.retry_after_ms);
}

void write(wire::Message::Builder out, const message::Ready& in) {
  auto ready = out.initReady();
  ready.setServes(in.serves);
  ready.setManifestVersion(in.manifest_version);
  ready.setSamples(in.samples);
  ready.setHoldoutSamples(in.holdout_samples);
  write_ids(ready.initOpenTasks(static_cast<unsigned>(in.open_tasks.size())), in.open_tasks);
  write_ids(ready.initAwaitingVerdict(static_cast<unsigned>(in.awaiting_verdict.size())),
            in.awaiting_verdict);
}

void write(wire::Message::Builder out, const message::Assignment& in) {
  write(out.initAssignment(), in.manifest);
}

void write(wire::TrainingPlan::Builder out, const message::TrainingPlan& in) {
  out.setEpochs(in.epochs);
  out.setBatchSize(in.batch_size);
  out.setLearningRate(in.learning_rate);
  out.setMomentum(in.momentum);
  out.setWeightDecay(in.weight_decay);
  out.setProximalMu(in.proximal_mu);
  out.setNormBound(in.norm_bound);
  out.setSeed(in.seed);
  out.setCodec(in.codec);
  out.setOptimizer(in.optimizer);
}

void write(wire::Message::Builder out, const message::Task& in) {
  auto task = out.initTask();
  task.setId(data(in.id));
  task.setType(static_cast<wire::TaskType>(in.type));
  task.setRound(in.round);
  task.setRemainingMs(in.remaining_ms);
  write(task.initBase(), in.base);
  write(task.initTraining(), in.training);
  write(task.initCandidate(), in.candidate);
}

void write(wire::Message::Builder out, const message::TaskCancelled& in) {
  auto cancelled = out.initTaskCancelled();
  cancelled.setId(data(in.id));
  cancelled.setReason(static_cast<std::uint16_t>(in.reason));
}

void write(wire::Message::Builder out, const message::Fetch& in) {
  auto fetch = out.initFetch();
  fetch.setContent(data(in.content));
  fetch.setOffset(in.offset);
  fetch.setCredit(in.credit);
  fetch.setWantList(in.want_list);
}

void write(wire::Message::Builder out, const message::ContentList& in) {
  auto list = out.initChunkList();
  list.setContent(data(in.content));
  list.setLength(in.list.length);
  write_ids(list.initChunks(static_cast<unsigned>(in.list.chunks.size())), in.list.chunks);
}

void write(wire::Message::Builder out, const message::Chunk& in) {
  auto chunk = out.initChunk();
  chunk.setContent(data(in.content));
  chunk.setOffset(in.offset);
  chunk.setData(data(ByteSpan(in.data)));
}

void write(wire::Message::Builder out, const message::Credit& in) {
  auto credit = out.initCredit();
  credit.setContent(data(in.content));
  credit.setBytes(in.bytes);
}

void write(wire::Message::Builder out, const message::NoContent& in) {
  out.initNoContent().setContent(data(in.content));
}

void write(wire::Message::Builder out, const message::Offer& in) { write(out.initOffer(), in.header); }

void write(wire::Message::Builder out, const message::Receipt& in) {
  auto receipt = out.initReceipt();
  receipt.setTask(data(in.task));
  receipt.setOutcome(static_cast<std::uint16_t>(in.outcome));
  receipt.setReason(static_cast<std::uint16_t>(in.reason));
  receipt.setDetail(in.detail);
}

void write(wire::Message::Builder out, const message::Verdicts& in) {
  auto list = out.initVerdicts().initEntries(static_cast<unsigned>(in.entries.size()));
  for (unsigned i = 0; i < in.entries.size(); ++i) {
    list[i].setTask(data(in.entries[i].task));
    list[i].setOutcome(static_cast<std::uint16_t>(in.entries[i].outcome));
    list[i].setReason(static_cast<std::uint16_t>(in.entries[i].reason));
    list[i].setVersion(in.entries[i].version);
  }
}

void write(wire::Message::Builder out, const message::Evaluation& in) {
  write(out.initEvaluation(), in.report);
}

void write(wire::Message::Builder out, const message::Heartbeat&) { out.setHeartbeat(); }

void write(wire::Message::Builder out, const message::Telemetry& in) {
  auto telemetry = out.initTelemetry();
  telemetry.setServes(in.serves);
  telemetry.setSamples(in.samples);
  telemetry.setHoldoutSamples(in.holdout_samples);
  telemetry.setInferences(in.inferences);
  telemetry.setInferenceErrors(in.inference_errors);
}

void write(wire::Message::Builder out, const message::Activation& in) {
  auto activation = out.initActivation();
  activation.setVersion(in.version);
  activation.setManifestVersion(in.manifest_version);
  activation.setOutcome(static_cast<std::uint16_t>(in.outcome));
  activation.setDetail(in.detail);
}

void write(wire::Message::Builder out, const message::Declined& in) {
  auto declined = out.initDeclined();
  declined.setTask(data(in.task));
  declined.setReason(static_cast<std::uint16_t>(in.reason));
  declined.setDetail(in.detail);
}

/// A first segment that nearly always suffices, as a second one costs a copy.
std::size_t words_for(const Message& message) {
  std::size_t bytes = 1024;
  if (const auto* chunk = std::get_if<message::Chunk>(&message)) bytes += chunk->data.size();
  if (const auto* list = std::get_if<message::ContentList>(&message)) bytes += list->list.chunks.size() * 40;
  if (const auto* task = std::get_if<message::Task>(&message)) {
    bytes += task->base.payload.size() + task->candidate.payload.size();
  }
  if (const auto* assignment = std::get_if<message::Assignment>(&message))
    bytes += assignment->manifest.payload.size();
  return bytes / sizeof(capnp::word);
}

}  // namespace

Bytes encode(const Message& message) {
  capnp::MallocMessageBuilder builder(static_cast<unsigned>(words_for(message)));
  auto root = builder.initRoot<wire::Message>();
  std::visit([&](const auto& value) { write(root, value); }, message);
  return payload::to_bytes(builder);
}

std::string_view name(const Message& message) {
  constexpr std::string_view names[] = {
      "trust_chain", "trust_request", "hello",      "enrol",   "enrolled",  "welcome",  "refused",
      "backoff",     "ready",         "assignment", "task",    "cancelled", "fetch",    "chunk_list",
      "chunk",       "credit",        "no_content", "offer",   "receipt",   "verdicts", "evaluation",
      "heartbeat",   "telemetry",     "activation", "declined"};
  static_assert(std::size(names) == std::variant_size_v<Message>);
  return names[message.index()];
}

}  // namespace rivulet
