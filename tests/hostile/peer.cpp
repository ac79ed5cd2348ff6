#include "tests/hostile/peer.h"

#include <asio/experimental/as_tuple.hpp>
#include <optional>

#include "link/system_clock.h"
#include "models/package/version.h"

namespace rivulet {
namespace {

constexpr auto quietly = asio::experimental::as_tuple(asio::use_awaitable);
constexpr std::size_t chunk_data_bytes = 32 * 1024;

}  // namespace

Bytes frame_of(std::uint32_t length, ByteSpan body) {
  Bytes frame;
  append_le(frame, length);
  frame.insert(frame.end(), body.begin(), body.end());
  return frame;
}

Bytes random_content(Rng& rng, std::size_t bytes) {
  Bytes content(bytes);
  for (std::byte& byte : content) byte = static_cast<std::byte>(rng());
  return content;
}

Peer::Peer(asio::io_context& io, SecretKey own)
    : key(std::move(own)),
      io_(io),
      tls_(context_of(key)),
      waiting_(io, asio::steady_timer::time_point::max()) {}

Peer::~Peer() { hang_up(); }

void Peer::spawn(asio::awaitable<void> task) {
  ++running_;
  asio::co_spawn(io_, std::move(task), [this](const std::exception_ptr& bug) {
    --running_;
    REQUIRE(!bug);
  });
}

void Peer::dial(const Endpoint& server, bool reads) {
  hang_up();
  heard.clear();
  outbox_.clear();
  bytes_sent = 0;
  closing_ = false;
  asio::ip::tcp::socket socket(io_);
  socket.connect({asio::ip::make_address(server.host), server.port});
  stream_ = std::make_unique<TlsStream>(std::move(socket), tls_, TlsRole::client);
  std::optional<Status> shaken;
  spawn(shake(shaken));
  run_until(io_, [&] { return shaken.has_value(); });
  INFO((*shaken ? "" : shaken->error().detail));
  REQUIRE(shaken->has_value());
  ended = false;
  if (reads) spawn(read_all());
  spawn(write_all());
}

asio::awaitable<void> Peer::shake(std::optional<Status>& status) {
  const Status shaken = co_await stream_->handshake(deadline_in(std::chrono::seconds(20)));
  status = shaken;
}

void Peer::hang_up() {
  if (!stream_) return;
  closing_ = true;
  stream_->cancel();
  waiting_.cancel();
  run_until(io_, [&] { return running_ == 0; });
  stream_.reset();
  ended = true;
}

asio::awaitable<void> Peer::read_all() {
  Bytes arrived;
  Bytes block(64 * 1024);
  while (true) {
    const auto got = co_await stream_->read_some(block);
    if (!got) break;
    arrived.insert(arrived.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(*got));
    std::size_t at = 0;
    while (arrived.size() - at >= 4) {
      const std::size_t length = load_le<std::uint32_t>(arrived, at);
      if (arrived.size() - at - 4 < length) break;
      auto message = decode_message(ByteSpan(arrived).subspan(at + 4, length));
      REQUIRE(message.has_value());
      take(std::move(*message));
      at += 4 + length;
    }
    arrived.erase(arrived.begin(), arrived.begin() + static_cast<std::ptrdiff_t>(at));
  }
  ended = true;
}

asio::awaitable<void> Peer::write_all() {
  while (!closing_) {
    if (outbox_.empty()) {
      std::ignore = co_await waiting_.async_wait(quietly);
      continue;
    }
    const auto sent = co_await stream_->write_some(outbox_.front());
    if (!sent) co_return;
    bytes_sent += *sent;
    Bytes& bytes = outbox_.front();
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(*sent));
    if (bytes.empty()) outbox_.pop_front();
  }
}

void Peer::send_bytes(Bytes bytes) {
  outbox_.push_back(std::move(bytes));
  waiting_.cancel();
}

void Peer::take(Message message) {
  if (const auto* fetch = std::get_if<message::Fetch>(&message)) serve(*fetch);
  heard.push_back(std::move(message));
}

void Peer::serve(const message::Fetch& fetch) {
  const auto found = uploads.find(fetch.content);
  if (found == uploads.end()) return send(message::NoContent{fetch.content});
  const Upload& upload = found->second;
  if (upload.keeps_list) return;
  if (fetch.want_list) return send(message::ContentList{fetch.content, upload.list});
  if (upload.misbehave) return upload.misbehave(*this, fetch);
  const std::uint64_t end = std::min<std::uint64_t>(upload.data.size(), fetch.offset + fetch.credit);
  for (std::uint64_t at = fetch.offset; at < end; at += chunk_data_bytes) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(chunk_data_bytes, end - at));
    send(message::Chunk{fetch.content, at, copy_of(ByteSpan(upload.data).subspan(at, size))});
  }
}

Bytes Peer::fetch(const ContentId& content, std::uint64_t bytes) {
  heard.clear();
  send(message::Fetch{content, 0, static_cast<std::uint32_t>(bytes), false});
  Bytes got;
  run_until(io_, [&] {
    got.clear();
    for (const Message& message : heard) {
      const auto* chunk = std::get_if<message::Chunk>(&message);
      if (chunk != nullptr && chunk->content == content)
        got.insert(got.end(), chunk->data.begin(), chunk->data.end());
    }
    return got.size() == bytes || last<message::NoContent>() != nullptr;
  });
  return got;
}

UpdateHeader Peer::header_for(const message::Task& task, ByteSpan content, std::uint64_t samples) const {
  const auto base = decode_version(task.base.payload);
  REQUIRE(base.has_value());
  return {.fleet = base->fleet,
          .task = task.id,
          .node = key.public_key(),
          .base_version = base->version,
          .base_hash = base->weights_hash,
          .codec = task.training.codec,
          .parameter_count = 0,
          .sample_count = samples,
          .loss_first = 1,
          .loss_last = 0.5,
          .content = content_id_of(content),
          .content_bytes = content.size(),
          .time = system_now().utc};
}

Envelope Peer::sealed(const UpdateHeader& header) const { return seal(key, Context::update, encode(header)); }

void Peer::offer(const UpdateHeader& header, Bytes content) {
  heard.clear();
  if (!uploads.contains(header.content)) uploads[header.content] = {chunk_list_of(content), content, {}};
  send(message::Offer{sealed(header)});
}

UpdateHeader Peer::offer(const message::Task& task, const std::vector<float>& delta, std::uint64_t samples) {
  Rng rng(1);
  const auto codec = codec_from_number(task.training.codec);
  REQUIRE(codec.has_value());
  const Bytes content = encode(*codec, delta, rng).value();
  UpdateHeader header = header_for(task, content, samples);
  header.parameter_count = delta.size();
  offer(header, content);
  return header;
}

}  // namespace rivulet
