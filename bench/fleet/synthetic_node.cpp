#include "bench/fleet/synthetic_node.h"

#include <asio/post.hpp>

#include "link/system_clock.h"
#include "models/package/version.h"
#include "protocol/codec/codec.h"
#include "protocol/transport/connector.h"

namespace rivulet::bench {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds connect_patience{15'000};
/// Between the first connections of two nodes, so that a fleet does not knock as one.
constexpr milliseconds start_spacing{2};
/// Between the end of a connection and the next one, at least; up to twice as long.
constexpr std::uint32_t pause_ms = 100;

MonotonicTime now() { return system_now().monotonic; }

}  // namespace

Result<std::unique_ptr<SyntheticNode>> SyntheticNode::make(Board& board, std::uint32_t number,
                                                           asio::any_io_executor executor) {
  SecretKey key = SecretKey::generate();
  const auto identity = TlsIdentity::make(key);
  if (!identity) return std::unexpected(identity.error());
  auto tls = TlsContext::make(*identity);
  if (!tls) return std::unexpected(tls.error());
  return std::unique_ptr<SyntheticNode>(
      new SyntheticNode(board, number, std::move(executor), std::move(*tls), std::move(key)));
}

SyntheticNode::SyntheticNode(Board& board, std::uint32_t number, asio::any_io_executor executor,
                             TlsContext tls, SecretKey key)
    : board_(board),
      number_(number),
      executor_(std::move(executor)),
      tls_(std::move(tls)),
      key_(std::move(key)),
      credit_(board.limits.transfer_memory),
      contents_(board.delta, board.download) {
  const bool steady = board.plan.cut_every == 0 || number % board.plan.cut_every != 0;
  cut_down_ = cut_up_ = steady;
}

asio::awaitable<void> SyntheticNode::live() {
  auto starting = sleep_until(deadline_in(number_ * start_spacing));
  std::ignore = co_await std::move(starting);
  const auto endpoint = parse_endpoint(board_.plan.token.address);
  if (!endpoint) {
    give_up(endpoint.error().detail);
    co_return;
  }
  while (!co_await is_cancelled()) {
    auto connecting = connect(executor_, *endpoint, tls_, deadline_in(connect_patience));
    auto stream = co_await std::move(connecting);
    if (stream) {
      Connection connection(std::move(*stream), core::Role::node, board_.limits, credit_, contents_, parts_,
                            *this);
      connection_ = &connection;
      ++connections_;
      ++board_.counts.connections;
      auto running = connection.run();
      co_await std::move(running);
      connection_ = nullptr;
    } else if (stream.error().code != Errc::cancelled) {
      give_up(stream.error().detail);
    }
    auto pausing = sleep_until(deadline_in(milliseconds(pause_ms + number_ % pause_ms)));
    std::ignore = co_await std::move(pausing);
  }
}

void SyntheticNode::give_up(const std::string& detail) {
  ++board_.counts.troubles[detail];
  if (connection_ != nullptr) connection_->close(Reason::none, detail);
}

void SyntheticNode::cut_once(bool& done) {
  if (std::exchange(done, true)) return;
  ++board_.counts.cuts;
  // Not from within the session.
  asio::post(executor_, [this, number = connections_] {
    if (connection_ != nullptr && number == connections_) connection_->close(Reason::none, "cut");
  });
}

// ---- What the coordinator says ---------------------------------------------------------------------

void SyntheticNode::deliver(Connection&, Message message) {
  std::visit([this](const auto& value) { take(value); }, message);
}

Result<TrustDocument> SyntheticNode::judge(const message::TrustChain& chain) const {
  const JoinToken& token = board_.plan.token;
  auto document =
      follow_trust({trust_ ? trust_->root : token.root, trust_}, chain.documents, system_now().utc);
  if (!document) return document;
  if (document->coordinator != connection_->peer_key())
    return fail(Errc::refused, "another coordinator answered");
  if (document->fleet != token.fleet) return fail(Errc::refused, "another fleet answered");
  return document;
}

void SyntheticNode::take(const message::TrustChain& chain) {
  auto document = judge(chain);
  if (!document) return give_up(document.error().detail);
  trust_ = std::move(*document);
  if (stage_ == Stage::joining) {
    message::Enrol enrol{.protocol_min = protocol_version_min,
                         .protocol_max = protocol_version_max,
                         .fleet = trust_->fleet,
                         .software = "fleet_bench",
                         .secret = board_.plan.token.secret};
    return connection_->send(std::move(enrol));
  }
  connection_->send(message::Hello{.protocol_min = protocol_version_min,
                                   .protocol_max = protocol_version_max,
                                   .fleet = trust_->fleet,
                                   .software = "fleet_bench"});
}

void SyntheticNode::take(const message::Enrolled&) {
  if (stage_ == Stage::joining) stage_ = Stage::waiting;
  connection_->close(Reason::none, "enrolled");
}

void SyntheticNode::take(const message::Welcome& welcome) {
  if (const Status status = verify_envelope(trust_->coordinator, Context::time, welcome.time); !status) {
    return give_up(status.error().detail);
  }
  message::Ready ready{.serves = 0,
                       .manifest_version = 0,
                       .samples = board_.plan.samples,
                       .holdout_samples = 0,
                       .open_tasks = {},
                       .awaiting_verdict = {}};
  if (work_ && stage_ < Stage::accepted) ready.open_tasks.push_back(work_->task);
  if (work_ && stage_ == Stage::accepted) ready.awaiting_verdict.push_back(work_->task);
  connection_->send(std::move(ready));
  if (!std::exchange(said_ready_, true)) ++board_.counts.ready;
  if (stage_ == Stage::downloading) connection_->fetch(work_->snapshot, work_->snapshot_bytes);
  if (stage_ == Stage::uploading) offer();
}

Result<SyntheticNode::Work> SyntheticNode::open(const message::Task& task) const {
  if (task.type != message::TaskType::train) return fail(Errc::unsupported, "a task that is not training");
  if (auto status = verify_envelope(trust_->coordinator, Context::version, task.base); !status) {
    return std::unexpected(status.error());
  }
  const auto base = decode_version(task.base.payload);
  if (!base) return std::unexpected(base.error());
  if (task.training.codec != static_cast<std::uint16_t>(Codec::int8)) {
    return fail(Errc::unsupported, "the update is wanted in another codec than int8");
  }
  Work work;
  work.task = task.id;
  work.snapshot = base->snapshot;
  work.snapshot_bytes = base->snapshot_bytes;
  work.header.fleet = trust_->fleet;
  work.header.task = task.id;
  work.header.node = key_.public_key();
  work.header.base_version = base->version;
  work.header.base_hash = base->weights_hash;
  work.header.codec = task.training.codec;
  work.header.parameter_count = board_.plan.parameters;
  work.header.sample_count = board_.plan.samples;
  work.header.loss_first = 1.0;
  work.header.loss_last = 0.5;
  return work;
}

void SyntheticNode::take(const message::Task& task) {
  if (work_ && work_->task == task.id) return;  // Told again on a new connection.
  auto work = open(task);
  if (!work) return give_up(work.error().detail);
  work_ = std::move(*work);
  if (!board_.counts.first_task) board_.counts.first_task = now();
  stage_ = Stage::downloading;
  connection_->fetch(work_->snapshot, work_->snapshot_bytes);
}

void SyntheticNode::take(const message::Receipt& receipt) {
  if (!work_ || receipt.task != work_->task || stage_ != Stage::uploading) return;
  board_.counts.last_receipt = now();
  if (receipt.outcome == message::ReceiptOutcome::accepted) {
    stage_ = Stage::accepted;
    ++board_.counts.accepted;
  } else {
    stage_ = Stage::settled;
    ++board_.counts.refused;
    ++board_.counts.troubles[receipt.detail];
  }
}

void SyntheticNode::take(const message::Verdicts& verdicts) {
  for (const message::Verdict& verdict : verdicts.entries) {
    if (!work_ || verdict.task != work_->task || stage_ != Stage::accepted) continue;
    stage_ = Stage::settled;
    if (!board_.counts.first_verdict) board_.counts.first_verdict = now();
    const bool aggregated = verdict.outcome == message::VerdictOutcome::aggregated;
    ++(aggregated ? board_.counts.aggregated : board_.counts.discarded);
    if (!aggregated) ++board_.counts.troubles["discarded: " + std::string(name(verdict.reason))];
  }
}

void SyntheticNode::take(const message::Refused& refused) {
  ++board_.counts.troubles["refused: " + std::string(name(refused.reason)) + ": " + refused.detail];
}

void SyntheticNode::take(const message::Backoff& backoff) {
  ++board_.counts.troubles["told to come later: " + std::string(name(backoff.reason))];
}

// ---- Contents --------------------------------------------------------------------------------------

void SyntheticNode::finish_fetch(Connection&, const ContentId& content) {
  if (stage_ != Stage::downloading || content != work_->snapshot) return;
  if (const Status status = contents_.finish_part(content); !status) return give_up(status.error().detail);
  stage_ = Stage::training;
  ++board_.counts.downloaded;
  board_.counts.last_download = now();
  if (board_.all_downloaded()) asio::post(executor_, board_.on_all_downloaded);
}

void SyntheticNode::fetch_failed(Connection&, const ContentId&, Error error) {
  // Without a connection the next one goes on with it.
  if (error.code != Errc::disconnected) ++board_.counts.troubles["fetch: " + error.detail];
}

std::optional<ChunkList> SyntheticNode::chunk_list(const ContentId& content) {
  if (content.is_zero() || content != contents_.update()) return std::nullopt;
  return contents_.update_list();
}

void SyntheticNode::begin_upload() {
  if (stage_ != Stage::training) return;
  stage_ = Stage::uploading;
  if (connection_ != nullptr && connection_->open()) offer();
}

void SyntheticNode::offer() {
  if (work_->offer.empty()) {
    const ChunkList& list = contents_.make_update(number_);
    work_->header.content = list.id();
    work_->header.content_bytes = list.length;
    work_->header.time = system_now().utc;
    work_->offer = seal(key_, Context::update, encode(work_->header));
  }
  if (!board_.counts.first_offer) board_.counts.first_offer = now();
  connection_->send(message::Offer{work_->offer});
}

void SyntheticNode::count_sent(std::uint64_t bytes) {
  board_.counts.bytes_up += bytes;
  sent_ += bytes;
  if (sent_ > work_->header.content_bytes / 2) cut_once(cut_up_);
}

void SyntheticNode::count_received(std::uint64_t bytes) {
  board_.counts.bytes_down += bytes;
  received_ += bytes;
  if (received_ > work_->snapshot_bytes / 2) cut_once(cut_down_);
}

}  // namespace rivulet::bench
