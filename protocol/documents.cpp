#include "protocol/documents.h"

#include "protocol/payload.h"
#include "protocol/schema.capnp.h"

namespace rivulet {
namespace {

std::int64_t milliseconds(UtcTime time) { return time.time_since_epoch().count(); }
UtcTime utc(std::int64_t value) { return UtcTime(std::chrono::milliseconds(value)); }

}  // namespace

Bytes encode(const UpdateHeader& header) {
  capnp::MallocMessageBuilder builder;
  auto out = builder.initRoot<wire::UpdateHeader>();
  out.setFleet(payload::data(header.fleet));
  out.setTask(payload::data(header.task));
  out.setNode(payload::data(header.node));
  out.setBaseVersion(header.base_version);
  out.setBaseHash(payload::data(header.base_hash));
  out.setCodec(header.codec);
  out.setParameterCount(header.parameter_count);
  out.setSampleCount(header.sample_count);
  out.setLossFirst(header.loss_first);
  out.setLossLast(header.loss_last);
  out.setContent(payload::data(header.content));
  out.setContentBytes(header.content_bytes);
  out.setTime(milliseconds(header.time));
  return payload::to_bytes(builder);
}

Result<UpdateHeader> decode_update_header(ByteSpan bytes) {
  return payload::read<wire::UpdateHeader>(bytes, [](wire::UpdateHeader::Reader in) -> Result<UpdateHeader> {
    UpdateHeader header;
    for (const Status& status : {payload::read_id(in.getFleet(), header.fleet, "fleet"),
                                 payload::read_id(in.getTask(), header.task, "task"),
                                 payload::read_id(in.getNode(), header.node, "node"),
                                 payload::read_id(in.getBaseHash(), header.base_hash, "base hash"),
                                 payload::read_id(in.getContent(), header.content, "content")}) {
      if (!status) return std::unexpected(status.error());
    }
    header.base_version = in.getBaseVersion();
    header.codec = in.getCodec();
    header.parameter_count = in.getParameterCount();
    header.sample_count = in.getSampleCount();
    header.loss_first = in.getLossFirst();
    header.loss_last = in.getLossLast();
    header.content_bytes = in.getContentBytes();
    header.time = utc(in.getTime());
    return header;
  });
}

Bytes encode(const EvaluationReport& report) {
  capnp::MallocMessageBuilder builder;
  auto out = builder.initRoot<wire::EvaluationReport>();
  out.setFleet(payload::data(report.fleet));
  out.setTask(payload::data(report.task));
  out.setNode(payload::data(report.node));
  out.setParentHash(payload::data(report.parent_hash));
  out.setCandidateHash(payload::data(report.candidate_hash));
  out.setBothRight(report.both_right);
  out.setParentOnly(report.parent_only);
  out.setCandidateOnly(report.candidate_only);
  out.setBothWrong(report.both_wrong);
  out.setParentLossSum(report.parent_loss_sum);
  out.setCandidateLossSum(report.candidate_loss_sum);
  out.setTime(milliseconds(report.time));
  return payload::to_bytes(builder);
}

Result<EvaluationReport> decode_evaluation_report(ByteSpan bytes) {
  using In = wire::EvaluationReport::Reader;
  return payload::read<wire::EvaluationReport>(bytes, [](In in) -> Result<EvaluationReport> {
    EvaluationReport report;
    for (const Status& status :
         {payload::read_id(in.getFleet(), report.fleet, "fleet"),
          payload::read_id(in.getTask(), report.task, "task"),
          payload::read_id(in.getNode(), report.node, "node"),
          payload::read_id(in.getParentHash(), report.parent_hash, "parent hash"),
          payload::read_id(in.getCandidateHash(), report.candidate_hash, "candidate hash")}) {
      if (!status) return std::unexpected(status.error());
    }
    report.both_right = in.getBothRight();
    report.parent_only = in.getParentOnly();
    report.candidate_only = in.getCandidateOnly();
    report.both_wrong = in.getBothWrong();
    report.parent_loss_sum = in.getParentLossSum();
    report.candidate_loss_sum = in.getCandidateLossSum();
    report.time = utc(in.getTime());
    return report;
  });
}

Bytes encode(const SignedTime& time) {
  capnp::MallocMessageBuilder builder;
  auto out = builder.initRoot<wire::SignedTime>();
  out.setFleet(payload::data(time.fleet));
  out.setUtc(milliseconds(time.utc));
  return payload::to_bytes(builder);
}

Result<SignedTime> decode_signed_time(ByteSpan bytes) {
  return payload::read<wire::SignedTime>(bytes, [](wire::SignedTime::Reader in) -> Result<SignedTime> {
    SignedTime time;
    const Status fleet = payload::read_id(in.getFleet(), time.fleet, "fleet");
    if (!fleet) return std::unexpected(fleet.error());
    time.utc = utc(in.getUtc());
    return time;
  });
}

}  // namespace rivulet
