#include "node/daemon/join.h"

#include <spdlog/fmt/fmt.h>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>

#include "link/connection.h"
#include "link/disk.h"
#include "link/system_clock.h"
#include "node/core/enrolment.h"
#include "node/core/records.h"
#include "node/daemon/folder.h"
#include "protocol/transport/connector.h"
#include "storage/memory_disk.h"
#include "storage/rocksdb_store.h"

namespace rivulet::node {
namespace {

constexpr std::size_t token_bytes = 32;

/// One enrolment over one connection.
class Enroller final : private ConnectionUser {
 public:
  Enroller(const JoinToken& token, Endpoint coordinator, const TlsContext& tls,
           std::chrono::milliseconds patience)
      : coordinator_(std::move(coordinator)),
        tls_(tls),
        deadline_(deadline_in(patience)),
        blobs_(make_memory_blob_store(disk_)),
        credit_(limits_.transfer_memory),
        enrolment_(token, software_name),
        timer_(io_),
        tasks_(io_.get_executor(), [](std::string_view what) {
          std::fprintf(stderr, "rivulet-node: bug in join: %.*s\n", static_cast<int>(what.size()),
                       what.data());
        }) {}

  Enrolment::Outcome run() {
    tasks_.spawn(talk());
    io_.run();
    return enrolment_.outcome();
  }

 private:
  asio::awaitable<void> talk() {
    auto connecting = connect(io_.get_executor(), coordinator_, tls_, deadline_);
    auto stream = co_await std::move(connecting);
    if (!stream) {
      step(event::Disconnected{1, stream.error()});
      co_return;
    }
    const PublicKey peer = (*stream)->peer_key();
    ConnectionUser& self = *this;
    connection_ = std::make_unique<Connection>(std::move(*stream), core::Role::node, limits_, credit_,
                                               *blobs_, parts_, self);
    step(event::Connected{1, peer});
    co_await connection_->run();
    timer_.cancel();
    const auto& end = connection_->end();
    const std::string why = end.detail.empty() ? std::string(name(end.reason)) : end.detail;
    step(event::Disconnected{1, {Errc::disconnected, "the coordinator ended the connection: " + why}});
  }

  void step(const Event& event) {
    for (Effect& effect : enrolment_.step(event, system_now())) {
      if (auto* send = std::get_if<effect::Send>(&effect)) {
        if (connection_) connection_->send(std::move(send->message));
      } else if (auto* close = std::get_if<effect::Disconnect>(&effect)) {
        if (connection_) connection_->close(close->reason, close->detail);
      }
    }
    const auto next = enrolment_.next_deadline();
    if (!next) {
      timer_.cancel();
      return;
    }
    timer_.expires_at(Deadline(std::chrono::duration_cast<Deadline::duration>(*next)));
    timer_.async_wait([this](const std::error_code& error) {
      if (!error) step(event::Tick{});
    });
  }

  void deliver(Connection&, Message message) override { step(event::MessageReceived{1, std::move(message)}); }
  void finish_fetch(Connection&, const ContentId&) override {}
  void fetch_failed(Connection&, const ContentId&, Error) override {}
  std::optional<ChunkList> chunk_list(const ContentId&) override { return std::nullopt; }
  void count_sent(std::uint64_t) override {}
  void count_received(std::uint64_t) override {}

  const Endpoint coordinator_;
  const TlsContext& tls_;
  const Deadline deadline_;
  const Limits limits_;
  asio::io_context io_;
  MemoryDisk disk_;  // No content moves before a node has joined.
  std::unique_ptr<BlobStore> blobs_;
  core::CreditPool credit_;
  VerifiedParts parts_;
  Enrolment enrolment_;
  asio::steady_timer timer_;
  std::unique_ptr<Connection> connection_;
  TaskGroup tasks_;
};

Result<SecretKey> key_of_folder(const FolderPaths& paths) {
  auto key = SecretKey::load(paths.key_file);
  if (key || key.error().code != Errc::not_found) return key;
  SecretKey fresh = SecretKey::generate();
  if (const auto saved = fresh.save(paths.key_file); !saved) return std::unexpected(saved.error());
  return fresh;
}

/// In the order that lets an interruption at any point be followed by another join.
Status write_folder(const FolderPaths& paths, const JoinToken& token, const Endpoint& coordinator,
                    const TrustDocument& document) {
  if (const auto made = make_folder(paths.store); !made) return made;
  {
    const auto store = open_rocksdb_store(paths.store, store_families());
    if (!store) return std::unexpected(store.error());
    const WriteBatch writes{record_of(document)};
    if (const auto status = (*store)->commit(writes, Durability::synced); !status) return status;
  }
  const std::string api_token = to_hex(random_bytes(token_bytes)) + "\n";
  if (const auto written = write_file_durably(paths.token_file, bytes_of(api_token), 0600); !written)
    return written;
  NodeConfig config;
  config.coordinator = coordinator;
  config.fleet = token.fleet;
  config.root = document.root;
  return write_file_durably(paths.config_file, bytes_of(to_toml(config)), 0600);
}

/// Other programs' files, or a user's, must not come to lie beside a node's.
Status check_unused(const FolderPaths& paths) {
  namespace fs = std::filesystem;
  // What a join leaves that was interrupted; files get their names when they are whole.
  const std::set<fs::path> ours{"LOCK",      "node.key",      paths.store.filename(), "node.key.new",
                                "api.token", "api.token.new", "node.toml.new"};
  const std::set<fs::path> ours_in_store{"LOCK", "FORMAT", "FORMAT.new", "rocksdb"};
  for (const auto& [folder, names] : {std::pair(paths.folder, ours), std::pair(paths.store, ours_in_store)}) {
    std::error_code error;
    if (!fs::exists(folder, error)) continue;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      if (names.contains(at->path().filename())) continue;
      return fail(Errc::invalid, fmt::format("{} holds something else than a join that was interrupted ({}): "
                                             "nothing was changed; name a new or an empty folder",
                                             folder.string(), at->path().filename().string()));
    }
    if (error)
      return fail(Errc::invalid, fmt::format("{} cannot be used: {}", folder.string(), error.message()));
  }
  return {};
}

}  // namespace

Result<Joined> join_fleet(std::string_view text, const std::filesystem::path& folder,
                          std::chrono::milliseconds patience) {
  const FolderPaths paths(folder);
  const auto joined = has_joined(paths);
  if (!joined) return std::unexpected(joined.error());
  if (*joined) {
    return fail(Errc::invalid, folder.string() +
                                   " has joined a fleet already (it has a node.toml): nothing was changed; "
                                   "name another folder");
  }
  const auto token = parse_token(text);
  if (!token) return std::unexpected(token.error());
  auto coordinator = parse_endpoint(token->address);
  if (!coordinator) return fail(Errc::invalid, "the token's address is wrong: " + coordinator.error().detail);
  if (token->address.find_first_of("\"\\\n") != std::string::npos) {
    return fail(Errc::invalid, "the token's address holds characters that no address has");
  }
  if (const auto status = check_unused(paths); !status) return std::unexpected(status.error());
  if (const auto status = check_room_to_open(paths.store); !status) return std::unexpected(status.error());
  if (const auto made = make_folder(folder); !made) return std::unexpected(made.error());
  const auto lock = lock_folder(folder);
  if (!lock) return std::unexpected(lock.error());
  const auto key = key_of_folder(paths);
  if (!key) return std::unexpected(key.error());
  const auto identity = TlsIdentity::make(*key);
  if (!identity) return std::unexpected(identity.error());
  const auto tls = TlsContext::make(*identity);
  if (!tls) return std::unexpected(tls.error());

  Enroller enroller(*token, *coordinator, *tls, patience);
  const auto outcome = enroller.run();
  if (const auto* failed = std::get_if<Enrolment::Failed>(&outcome)) return std::unexpected(failed->error);
  const auto* done = std::get_if<Enrolment::Done>(&outcome);
  if (done == nullptr) return fail(Errc::disconnected, "the coordinator ended the connection");
  if (const auto status = write_folder(paths, *token, *coordinator, done->document); !status) {
    return std::unexpected(status.error());
  }
  return Joined{done->fleet_name, key->public_key().hex()};
}

}  // namespace rivulet::node
