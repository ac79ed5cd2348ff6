#include <algorithm>

#include "protocol/core/session.h"

/// A session's side of a transfer towards the peer: at its word, within its credit.
namespace rivulet::core {

void Session::on_fetch(const message::Fetch& fetch) {
  outgoing_.emplace(Outgoing{.content = fetch.content,
                             .list = std::nullopt,
                             .offset = fetch.offset,
                             .credit = std::min<std::uint64_t>(fetch.credit, limits_.transfer_memory),
                             .list_wanted = fetch.want_list});
  emit(OpenContent{fetch.content});
}

void Session::on_credit(const message::Credit& credit) {
  if (!outgoing_ || outgoing_->content != credit.content) return;
  outgoing_->credit = std::min<std::uint64_t>(outgoing_->credit + credit.bytes, limits_.transfer_memory);
  pump();
}

SessionEffects Session::content_opened(const ContentId& content, const ChunkList& list) {
  if (!outgoing_ || outgoing_->content != content || phase_ != Phase::open) return take();
  outgoing_->list = list;
  if (outgoing_->list_wanted) emit(SendFrame{encode(message::ContentList{content, list})});
  outgoing_->list_wanted = false;
  pump();
  return take();
}

SessionEffects Session::content_missing(const ContentId& content) {
  if (outgoing_ && outgoing_->content == content) {
    outgoing_.reset();
    if (phase_ == Phase::open) emit(SendFrame{encode(message::NoContent{content})});
  }
  return take();
}

void Session::pump() {
  if (!outgoing_ || !outgoing_->list || outgoing_->reading || !writable_) return;
  const Outgoing& out = *outgoing_;
  if (out.offset >= out.list->length || out.credit == 0) return;
  const std::uint64_t chunk_end = (out.offset / chunk_bytes + 1) * chunk_bytes;
  const std::uint64_t size = std::min({std::uint64_t{limits_.chunk_data_bytes_max}, out.credit,
                                       out.list->length - out.offset, chunk_end - out.offset});
  outgoing_->reading = true;
  emit(ReadContent{out.content, out.offset, static_cast<std::uint32_t>(size)});
}

SessionEffects Session::content_read(const ContentId& content, std::uint64_t offset, Bytes data) {
  if (!outgoing_ || phase_ != Phase::open) return take();
  outgoing_->reading = false;
  // An answer to a read of before the peer fetched anew is of no use.
  if (outgoing_->content == content && outgoing_->offset == offset && data.size() <= outgoing_->credit) {
    outgoing_->offset += data.size();
    outgoing_->credit -= data.size();
    writable_ = false;
    emit(SendFrame{encode(message::Chunk{content, offset, std::move(data)})});
  }
  pump();
  return take();
}

SessionEffects Session::on_writable(Now) {
  writable_ = true;
  pump();
  return take();
}

}  // namespace rivulet::core
