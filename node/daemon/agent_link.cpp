#include "link/system_clock.h"
#include "node/daemon/agent_impl.h"
#include "protocol/transport/connector.h"

namespace rivulet::node {

asio::awaitable<void> AgentDriver::Impl::dial(std::uint64_t number) {
  const Deadline deadline = deadline_in(state.config.connect_timeout);
  auto connecting = connect(io.get_executor(), folder.config.coordinator, *tls, deadline);
  auto stream = co_await std::move(connecting);
  if (number != connection_number || stopping) {
    if (stream) {
      auto closing = (*stream)->close();
      co_await std::move(closing);
    }
    co_return;
  }
  if (!stream) {
    handle(event::Disconnected{number, stream.error()});
    co_return;
  }
  const PublicKey peer = (*stream)->peer_key();
  ConnectionUser& self = *this;
  const auto mine = std::make_shared<Connection>(std::move(*stream), core::Role::node, limits, credit,
                                                 *folder.blobs, parts, self);
  connection = mine;
  offered.reset();  // The disk may have damaged it by now.
  handle(event::Connected{number, peer});
  auto running = mine->run();
  co_await std::move(running);
  if (connection == mine) connection.reset();
  if (number == connection_number) {
    const auto& end = mine->end();
    const std::string why = end.detail.empty() ? std::string(name(end.reason)) : end.detail;
    handle(event::Disconnected{number, {Errc::disconnected, why, end.reason}});
  }
}

void AgentDriver::Impl::drop_connection(Reason reason, const std::string& detail) {
  if (connection) connection->close(reason, detail);
  connection.reset();
}

void AgentDriver::Impl::deliver(Connection& from, Message message) {
  if (&from == connection.get()) handle(event::MessageReceived{connection_number, std::move(message)});
}

void AgentDriver::Impl::finish_fetch(Connection&, const ContentId& content) {
  storage.post([this, content] {
    auto status = folder.blobs->finish_part(content);
    post([this, content, status = std::move(status)] {
      if (status) return fetch_done(content);
      content_failed(content, status.error());
    });
  });
}

void AgentDriver::Impl::fetch_failed(Connection& from, const ContentId& content, Error error) {
  if (&from != connection.get()) return;
  // It comes from within the session, which the agent's answer may want to use.
  post([this, content, error = std::move(error)] { content_failed(content, error); });
}

void AgentDriver::Impl::content_failed(const ContentId& content, const Error& error) {
  if (error.code == Errc::storage) break_down(error);
  if (!fetch || fetch->content != content) return;
  fetch.reset();
  handle(event::ContentFailed{content, error});
}

void AgentDriver::Impl::fetch_done(const ContentId& content) {
  if (!fetch || fetch->content != content) return;
  event::ContentReceived received{content, {}};
  if (fetch->want_bytes) {
    auto bytes = folder.blobs->read_all(content);
    if (!bytes) return content_failed(content, bytes.error());
    received.bytes = std::move(*bytes);
  }
  fetch.reset();
  handle(std::move(received));
}

std::optional<ChunkList> AgentDriver::Impl::chunk_list(const ContentId& content) {
  // It is asked for more than once in an upload, and hashing takes the agent's thread.
  if (offered && offered->first == content) return offered->second;
  for (const auto& [task, entry] : state.outbox) {
    if (entry.content != content) continue;
    auto list = hash_blob(*folder.blobs, content);
    if (!list || list->id() != content) continue;
    offered.emplace(content, std::move(*list));
    return offered->second;
  }
  return std::nullopt;
}

void AgentDriver::Impl::count_sent(std::uint64_t bytes) { metrics.transferred(bytes, 0); }
void AgentDriver::Impl::count_received(std::uint64_t bytes) { metrics.transferred(0, bytes); }

void AgentDriver::Impl::carry_out(effect::Connect& effect) {
  // While a full disk kept it waiting, the agent may have given it up, and made others.
  if (effect.connection != state.link.connection || !std::holds_alternative<Connecting>(state.link.phase))
    return;
  drop_connection(Reason::replaced, "a new connection takes its place");
  connection_number = effect.connection;
  tasks.spawn(dial(effect.connection));
}

void AgentDriver::Impl::carry_out(effect::Disconnect& effect) {
  if (effect.connection == connection_number) drop_connection(effect.reason, effect.detail);
}

void AgentDriver::Impl::carry_out(effect::Send& effect) {
  if (effect.connection == connection_number && connection) connection->send(std::move(effect.message));
}

void AgentDriver::Impl::carry_out(effect::Fetch& effect) {
  fetch = effect;
  // After the removals that were asked for before, which the storage thread does too.
  storage.post([this, content = effect.content] {
    const bool here = folder.blobs->contains(content);
    post([this, content, here] {
      if (!fetch || fetch->content != content) return;
      if (here) {
        fetch_done(content);
      } else if (connection) {
        connection->fetch(content, fetch->max_bytes);
      }
    });
  });
}

void AgentDriver::Impl::carry_out(effect::DropContent& effect) {
  if (offered && offered->first == effect.content) offered.reset();
  // Else its chunks would fail as ones of a part that is gone; damaged content is still waited for.
  if (!effect.damaged && fetch && fetch->content == effect.content) {
    fetch.reset();
    if (connection) connection->stop_fetch(effect.content);
  }
  storage.post([this, content = effect.content] {
    std::ignore = folder.blobs->erase(content);  // Best effort: a restart sweeps what is left.
    std::ignore = folder.blobs->erase_part(content);
  });
}

}  // namespace rivulet::node
