#include "protocol/message.h"
#include "protocol/payload.h"
#include "protocol/schema.capnp.h"

namespace rivulet {
namespace {

using payload::read_id;
using payload::read_text;

/// Collects the first error of many fields, so that reading stays one line a field.
struct Fields {
  Status status;

  void operator()(Status next) {
    if (status && !next) status = std::move(next);
  }
  template <typename T>
  Result<Message> give(T&& value) {
    if (!status) return std::unexpected(status.error());
    return Message(std::forward<T>(value));
  }
};

/// A peer can claim any number of elements that take no space; ours all take at least a word.
constexpr unsigned elements_max = 65536;
/// Of open and decided tasks that one `ready` names; a node holds a few. Each costs its reader an answer.
constexpr unsigned ready_tasks_max = 256;

template <typename List>
Status check_count(const List& list, const char* field, unsigned most = elements_max) {
  if (list.size() <= most) return {};
  return fail(Errc::corrupt, std::string(field) + " has " + std::to_string(list.size()) + " elements");
}

Status read(wire::Envelope::Reader in, Envelope& out) {
  out.payload = copy_of(payload::span(in.getPayload()));
  return read_id(in.getSignature(), out.signature, "signature");
}

template <typename Id>
Status read_ids(capnp::List<capnp::Data>::Reader in, std::vector<Id>& out, const char* field) {
  if (auto status = check_count(in, field); !status) return status;
  out.reserve(in.size());
  for (const auto element : in) {
    if (element.size() != Id::size)
      return fail(Errc::corrupt, std::string("an entry of ") + field + " has a wrong size");
    out.push_back(*Id::from_bytes(payload::span(element)));
  }
  return {};
}

Result<Message> read(wire::TrustChain::Reader in) {
  message::TrustChain out;
  Fields fields;
  fields(check_count(in.getDocuments(), "trust chain"));
  if (!fields.status) return std::unexpected(fields.status.error());
  for (const auto document : in.getDocuments()) {
    SignedTrust& trust = out.documents.emplace_back();
    trust.payload = copy_of(payload::span(document.getPayload()));
    if (document.getSignatures().size() > 4)
      return fail(Errc::corrupt, "a trust document has more than 4 signatures");
    for (const auto signature : document.getSignatures()) {
      auto& entry = trust.signatures.emplace_back();
      fields(read_id(signature.getKey(), entry.key, "key"));
      fields(read_id(signature.getSignature(), entry.signature, "signature"));
    }
  }
  return fields.give(std::move(out));
}

Result<Message> read(wire::Hello::Reader in) {
  message::Hello out;
  Fields fields;
  out.protocol_min = in.getProtocolMin();
  out.protocol_max = in.getProtocolMax();
  fields(read_id(in.getFleet(), out.fleet, "fleet"));
  fields(read_text(in.getSoftware(), out.software, "software"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Enrol::Reader in) {
  message::Enrol out;
  Fields fields;
  out.protocol_min = in.getProtocolMin();
  out.protocol_max = in.getProtocolMax();
  fields(read_id(in.getFleet(), out.fleet, "fleet"));
  fields(read_text(in.getSoftware(), out.software, "software"));
  fields(read_id(in.getSecret(), out.secret, "secret"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Welcome::Reader in) {
  message::Welcome out;
  Fields fields;
  out.protocol = in.getProtocol();
  out.heartbeat_seconds = in.getHeartbeatSeconds();
  fields(read(in.getTime(), out.time));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Refused::Reader in) {
  message::Refused out;
  Fields fields;
  out.reason = static_cast<Reason>(in.getReason());
  fields(read_text(in.getDetail(), out.detail, "detail"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Ready::Reader in) {
  message::Ready out;
  Fields fields;
  out.serves = in.getServes();
  out.manifest_version = in.getManifestVersion();
  out.samples = in.getSamples();
  out.holdout_samples = in.getHoldoutSamples();
  fields(check_count(in.getOpenTasks(), "open tasks", ready_tasks_max));
  fields(check_count(in.getAwaitingVerdict(), "tasks awaiting a verdict", ready_tasks_max));
  if (!fields.status) return std::unexpected(fields.status.error());
  fields(read_ids(in.getOpenTasks(), out.open_tasks, "open tasks"));
  fields(read_ids(in.getAwaitingVerdict(), out.awaiting_verdict, "tasks awaiting a verdict"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Task::Reader in) {
  message::Task out;
  Fields fields;
  fields(read_id(in.getId(), out.id, "task id"));
  if (in.getType() != wire::TaskType::TRAIN && in.getType() != wire::TaskType::EVALUATE) {
    return fail(Errc::unsupported,
                "a task of unknown type " + std::to_string(static_cast<int>(in.getType())));
  }
  out.type = static_cast<message::TaskType>(in.getType());
  out.round = in.getRound();
  out.remaining_ms = in.getRemainingMs();
  fields(read(in.getBase(), out.base));
  fields(read(in.getCandidate(), out.candidate));
  const auto plan = in.getTraining();
  out.training = {plan.getEpochs(),      plan.getBatchSize(),  plan.getLearningRate(), plan.getMomentum(),
                  plan.getWeightDecay(), plan.getProximalMu(), plan.getNormBound(),    plan.getSeed(),
                  plan.getCodec(),       plan.getOptimizer()};
  return fields.give(std::move(out));
}

Result<Message> read(wire::Fetch::Reader in) {
  message::Fetch out;
  Fields fields;
  fields(read_id(in.getContent(), out.content, "content"));
  out.offset = in.getOffset();
  out.credit = in.getCredit();
  out.want_list = in.getWantList();
  return fields.give(std::move(out));
}

Result<Message> read(wire::ChunkList::Reader in) {
  message::ContentList out;
  Fields fields;
  fields(read_id(in.getContent(), out.content, "content"));
  out.list.length = in.getLength();
  fields(read_ids(in.getChunks(), out.list.chunks, "chunk list"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Chunk::Reader in) {
  message::Chunk out;
  Fields fields;
  fields(read_id(in.getContent(), out.content, "content"));
  out.offset = in.getOffset();
  out.data = copy_of(payload::span(in.getData()));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Receipt::Reader in) {
  message::Receipt out;
  Fields fields;
  fields(read_id(in.getTask(), out.task, "task"));
  if (in.getOutcome() > 2)
    return fail(Errc::corrupt, "a receipt has the unknown outcome " + std::to_string(in.getOutcome()));
  out.outcome = static_cast<message::ReceiptOutcome>(in.getOutcome());
  out.reason = static_cast<Reason>(in.getReason());
  fields(read_text(in.getDetail(), out.detail, "detail"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Verdicts::Reader in) {
  message::Verdicts out;
  Fields fields;
  fields(check_count(in.getEntries(), "verdicts"));
  if (!fields.status) return std::unexpected(fields.status.error());
  for (const auto entry : in.getEntries()) {
    message::Verdict& verdict = out.entries.emplace_back();
    fields(read_id(entry.getTask(), verdict.task, "task"));
    if (entry.getOutcome() > 1) return fail(Errc::corrupt, "a verdict has an unknown outcome");
    verdict.outcome = static_cast<message::VerdictOutcome>(entry.getOutcome());
    verdict.reason = static_cast<Reason>(entry.getReason());
    verdict.version = entry.getVersion();
  }
  return fields.give(std::move(out));
}

Result<Message> read(wire::Telemetry::Reader in) {
  return Message(message::Telemetry{in.getServes(), in.getSamples(), in.getHoldoutSamples(),
                                    in.getInferences(), in.getInferenceErrors()});
}

Result<Message> read(wire::Activation::Reader in) {
  message::Activation out;
  Fields fields;
  out.version = in.getVersion();
  out.manifest_version = in.getManifestVersion();
  out.outcome = static_cast<Reason>(in.getOutcome());
  fields(read_text(in.getDetail(), out.detail, "detail"));
  return fields.give(std::move(out));
}

Result<Message> read(wire::Declined::Reader in) {
  message::Declined out;
  Fields fields;
  fields(read_id(in.getTask(), out.task, "task"));
  out.reason = static_cast<Reason>(in.getReason());
  fields(read_text(in.getDetail(), out.detail, "detail"));
  return fields.give(std::move(out));
}

template <typename T>
Result<Message> read_envelope(wire::Envelope::Reader in) {
  Envelope envelope;
  Fields fields;
  fields(read(in, envelope));
  return fields.give(T{std::move(envelope)});
}

Result<Message> read_root(wire::Message::Reader in) {
  Fields fields;
  switch (in.which()) {
    case wire::Message::TRUST_CHAIN: return read(in.getTrustChain());
    case wire::Message::TRUST_REQUEST:
      return Message(message::TrustRequest{in.getTrustRequest().getFromVersion()});
    case wire::Message::HELLO: return read(in.getHello());
    case wire::Message::ENROL: return read(in.getEnrol());
    case wire::Message::ENROLLED: {
      message::Enrolled out;
      fields(read_text(in.getEnrolled().getName(), out.name, "fleet name"));
      return fields.give(std::move(out));
    }
    case wire::Message::WELCOME: return read(in.getWelcome());
    case wire::Message::REFUSED: return read(in.getRefused());
    case wire::Message::BACKOFF:
      return Message(message::Backoff{static_cast<Reason>(in.getBackoff().getReason()),
                                      in.getBackoff().getRetryAfterMs()});
    case wire::Message::READY: return read(in.getReady());
    case wire::Message::ASSIGNMENT: return read_envelope<message::Assignment>(in.getAssignment());
    case wire::Message::TASK: return read(in.getTask());
    case wire::Message::TASK_CANCELLED: {
      message::TaskCancelled out;
      out.reason = static_cast<Reason>(in.getTaskCancelled().getReason());
      fields(read_id(in.getTaskCancelled().getId(), out.id, "task"));
      return fields.give(out);
    }
    case wire::Message::FETCH: return read(in.getFetch());
    case wire::Message::CHUNK_LIST: return read(in.getChunkList());
    case wire::Message::CHUNK: return read(in.getChunk());
    case wire::Message::CREDIT: {
      message::Credit out;
      out.bytes = in.getCredit().getBytes();
      fields(read_id(in.getCredit().getContent(), out.content, "content"));
      return fields.give(out);
    }
    case wire::Message::NO_CONTENT: {
      message::NoContent out;
      fields(read_id(in.getNoContent().getContent(), out.content, "content"));
      return fields.give(out);
    }
    case wire::Message::OFFER: return read_envelope<message::Offer>(in.getOffer());
    case wire::Message::RECEIPT: return read(in.getReceipt());
    case wire::Message::VERDICTS: return read(in.getVerdicts());
    case wire::Message::EVALUATION: return read_envelope<message::Evaluation>(in.getEvaluation());
    case wire::Message::HEARTBEAT: return Message(message::Heartbeat{});
    case wire::Message::TELEMETRY: return read(in.getTelemetry());
    case wire::Message::ACTIVATION: return read(in.getActivation());
    case wire::Message::DECLINED: return read(in.getDeclined());
  }
  return fail(Errc::unsupported, "a message of unknown type " + std::to_string(static_cast<int>(in.which())));
}

}  // namespace

Result<Message> decode_message(ByteSpan frame) { return payload::read<wire::Message>(frame, read_root); }

}  // namespace rivulet
