#include "protocol/transport/frame_stream.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <limits>

#include "protocol/assert.h"

namespace rivulet {
namespace {

/// The most that one TLS record carries (RFC 8446 section 5.1). Small pieces are joined up to it.
constexpr std::size_t record_bytes = 16 * 1024;
/// A body grows by what arrives, so that announcing one costs us no memory.
constexpr std::size_t first_allocation_bytes = 64 * 1024;

}  // namespace

void FrameStream::Progress::start() {
  in_window_ = 0;
  deadline_ = deadline_in(limits_.progress_window);
}

void FrameStream::Progress::moved(std::size_t bytes) {
  in_window_ += bytes;
  if (in_window_ >= limits_.progress_bytes) start();
}

FrameStream::FrameStream(std::unique_ptr<TlsStream> tls, const TransportLimits& limits)
    : tls_(std::move(tls)),
      limits_(limits),
      first_frame_deadline_(deadline_in(limits_.first_frame)),
      read_progress_(limits_) {}

Deadline FrameStream::read_deadline() const {
  const Deadline first = first_frame_read_ ? no_deadline : first_frame_deadline_;
  if (header_filled_ > 0) return std::min(first, read_progress_.deadline());
  if (!first_frame_read_ || limits_.idle.count() == 0) return first;
  return deadline_in(limits_.idle);
}

std::unexpected<Error> FrameStream::read_failed(Error error) {
  if (error.code == Errc::timeout) {
    if (!first_frame_read_) {
      error.detail = fmt::format("{} did not finish its first frame within {} ms", remote(),
                                 limits_.first_frame.count());
    } else if (header_filled_ == 0) {
      error.detail = fmt::format("{} was silent for {} ms", remote(), limits_.idle.count());
    } else {
      error.detail = fmt::format("{} sent less than {} bytes of a frame in {} ms", remote(),
                                 limits_.progress_bytes, limits_.progress_window.count());
    }
  } else if (error.code == Errc::disconnected && header_filled_ > 0) {
    error.detail += ", in the middle of a frame";
  }
  if (error.code != Errc::cancelled) read_error_ = error;
  return std::unexpected(std::move(error));
}

asio::awaitable<Status> FrameStream::read_into(std::span<std::byte> part, std::size_t& filled) {
  while (filled < part.size()) {
    const Result<std::size_t> moved = co_await tls_->read_some(part.subspan(filled), read_deadline());
    if (!moved) co_return std::unexpected(moved.error());
    if (header_filled_ == 0) read_progress_.start();
    filled += *moved;
    bytes_in_ += *moved;
    read_progress_.moved(*moved);
    // The deadline is asked here too: a peer that always has a byte ready never makes us wait.
    if (filled < part.size() && std::chrono::steady_clock::now() > read_deadline()) {
      co_return fail(Errc::timeout, "too slow");
    }
  }
  co_return Status();
}

asio::awaitable<Status> FrameStream::read_body(std::size_t length) {
  while (body_filled_ < length) {
    if (body_filled_ == body_.size()) {
      body_.resize(std::min(length, std::max(first_allocation_bytes, body_.size() * 2)));
    }
    const Status part = co_await read_into(body_, body_filled_);
    if (!part) co_return part;
  }
  co_return Status();
}

asio::awaitable<Result<Bytes>> FrameStream::read_frame(std::size_t limit_bytes) {
  if (read_error_) co_return std::unexpected(*read_error_);
  const Status header = co_await read_into(header_, header_filled_);
  if (!header) co_return read_failed(header.error());
  const std::size_t length = load_le<std::uint32_t>(header_);
  if (length == 0) co_return read_failed(Error{Errc::corrupt, remote() + " sent a frame of length 0"});
  if (length > limit_bytes) {
    co_return read_failed(Error{
        Errc::too_large,
        fmt::format("{} announced a frame of {} bytes where {} are allowed", remote(), length, limit_bytes)});
  }
  const Status whole = co_await read_body(length);
  if (!whole) co_return read_failed(whole.error());
  header_filled_ = 0;
  body_filled_ = 0;
  first_frame_read_ = true;
  co_return std::exchange(body_, Bytes());
}

asio::awaitable<Status> FrameStream::write_part(ByteSpan part, Progress& progress) {
  while (!part.empty()) {
    const Result<std::size_t> moved = co_await tls_->write_some(part, progress.deadline());
    if (!moved && moved.error().code == Errc::timeout) {
      co_return fail(Errc::timeout, fmt::format("{} took less than {} bytes of a frame in {} ms", remote(),
                                                limits_.progress_bytes, limits_.progress_window.count()));
    }
    if (!moved) co_return std::unexpected(moved.error());
    progress.moved(*moved);
    bytes_out_ += *moved;
    part = part.subspan(*moved);
  }
  co_return Status();
}

asio::awaitable<Status> FrameStream::write_frame(std::span<const ByteSpan> pieces) {
  if (write_error_) co_return std::unexpected(*write_error_);
  std::size_t length = 0;
  for (const ByteSpan piece : pieces) length += piece.size();
  RIVULET_ASSERT(length > 0);
  if (length > std::numeric_limits<std::uint32_t>::max()) {
    co_return fail(Errc::too_large,
                   fmt::format("a frame of {} bytes does not fit its length of 32 bits", length));
  }
  Bytes record;
  record.reserve(std::min(header_bytes + length, record_bytes));
  append_le(record, static_cast<std::uint32_t>(length));
  Progress progress(limits_);
  progress.start();
  Status written;
  for (std::size_t index = 0; index < pieces.size() && written; ++index) {
    ByteSpan piece = pieces[index];
    while (!piece.empty() && written) {
      if (record.empty() && piece.size() >= record_bytes) {  // Large pieces go out from where they are.
        const ByteSpan whole_records = piece.first(piece.size() / record_bytes * record_bytes);
        piece = piece.subspan(whole_records.size());
        written = co_await write_part(whole_records, progress);
        continue;
      }
      const ByteSpan head = piece.first(std::min(piece.size(), record_bytes - record.size()));
      record.insert(record.end(), head.begin(), head.end());
      piece = piece.subspan(head.size());
      if (record.size() == record_bytes) {
        written = co_await write_part(record, progress);
        record.clear();
      }
    }
  }
  if (written) written = co_await write_part(record, progress);
  if (!written) write_error_ = written.error();
  co_return written;
}

asio::awaitable<Status> FrameStream::write_frame(ByteSpan body) {
  const std::array<ByteSpan, 1> pieces{body};
  const std::span<const ByteSpan> all(pieces);
  co_return co_await write_frame(all);
}

asio::awaitable<Status> FrameStream::write_owned(Bytes body) {
  const ByteSpan whole(body);
  co_return co_await write_frame(whole);
}

asio::awaitable<Status> FrameStream::write_frame(Bytes&& body) { return write_owned(std::move(body)); }

asio::awaitable<void> FrameStream::close() { return tls_->close(limits_.linger); }

}  // namespace rivulet
