#include "coordinator/server/server.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <atomic>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/server/admin_api.h"
#include "coordinator/server/connections.h"
#include "coordinator/server/open_files.h"
#include "link/disk.h"
#include "link/log.h"
#include "link/system_clock.h"
#include "protocol/assert.h"
#include "protocol/transport/deadline.h"
#include "storage/file.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"

namespace rivulet::coordinator {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// How long a stop waits for commits, which a full disk may hold up, …
constexpr auto settle_patience = 3s;
/// … and for all the rest of it.
constexpr auto stop_patience = 8s;
constexpr std::uint64_t token_file_bytes_max = 4096;

Result<std::string> load_token(const fs::path& file) {
  std::error_code error;
  const fs::perms mode = fs::status(file, error).permissions();
  if (!error && (mode & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none) {
    return fail(Errc::permission, file.string() + " may be read by others: chmod 600 it");
  }
  const auto bytes = read_file(file, token_file_bytes_max);
  if (!bytes && bytes.error().code == Errc::not_found) {
    return fail(
        Errc::not_found,
        fmt::format("there is no {0}: restore it from your copy, or make a new one: (umask 077; head -c "
                    "32 /dev/urandom | base64 > {0})",
                    file.string()));
  }
  if (!bytes) return std::unexpected(bytes.error());
  std::string token(text_of(*bytes));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.empty())
    return fail(Errc::invalid, file.string() + " is empty: put a token there, or init a new folder");
  return token;
}

Result<SecretKey> load_coordinator_key(const fs::path& file) {
  auto key = SecretKey::load(file);
  if (key || key.error().code != Errc::not_found) return key;
  return fail(Errc::not_found,
              "there is no " + file.string() +
                  ": restore it from your copy; nodes know its public key, so no other will do");
}

/// An address that cannot be listened on, and where it is set.
std::unexpected<Error> fail_to_listen(const Error& error, const char* key, const fs::path& folder) {
  return fail(error.code, fmt::format("{}: stop what holds it, or set another {} under [coordinator] in {}",
                                      error.detail, key, (folder / "coordinator.toml").string()));
}

std::size_t worker_threads(std::size_t configured) {
  if (configured != 0) return configured;
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 16);
}

}  // namespace

struct Server::Impl {
  explicit Impl(Options all)
      : options(std::move(all)), timer(io), signals(io), datasets(options.folder / "datasets") {}

  Status open();
  Status open_stores();
  Status listen();
  void start();
  void begin_stop();
  asio::awaitable<void> finish_stop();
  asio::awaitable<void> wait_until(const std::function<bool()>& done, rivulet::Deadline deadline);
  Status write_run_file() const;
  [[nodiscard]] nlohmann::json addresses() const;

  Options options;
  std::optional<FolderLock> lock;
  std::optional<SecretKey> key;
  std::string token;
  asio::io_context io{1};
  asio::steady_timer timer;
  asio::signal_set signals;
  std::unique_ptr<Store> store;
  std::unique_ptr<BlobStore> blobs;
  Datasets datasets;
  ServerMetrics metrics;
  std::unique_ptr<Driver> driver;
  std::unique_ptr<Connections> connections;
  std::unique_ptr<AdminDesk> desk;
  std::unique_ptr<AdminApi> api;
  std::optional<Error> failure;
  bool stopping = false;
  std::atomic<bool> api_stopped = false;
};

Status Server::Impl::open() {
  const fs::path& folder = options.folder;
  auto locked = lock_folder(folder);
  if (!locked) return std::unexpected(locked.error());
  lock.emplace(std::move(*locked));
  auto loaded = load_coordinator_key(folder / "coordinator.key");
  if (!loaded) return std::unexpected(loaded.error());
  key.emplace(std::move(*loaded));
  auto read = load_token(folder / "admin.token");
  if (!read) return std::unexpected(read.error());
  token = std::move(*read);
  if (Status status = open_stores(); !status) return status;

  const auto post = [this](std::function<void()> action) { asio::post(io, std::move(action)); };
  const auto wake_at = [this](MonotonicTime at) {
    timer.expires_at(
        asio::steady_timer::time_point(std::chrono::duration_cast<asio::steady_timer::duration>(at)));
    timer.async_wait([this](const std::error_code& error) {
      if (!error) driver->tick();
    });
  };
  const auto broken = [this](const Error& error) {
    log_event(LogLevel::error, "storage_failed", {{"detail", error.detail}});
    failure = told_to_mend(error);
    begin_stop();
  };
  driver = std::make_unique<Driver>(
      Driver::Parts{.store = *store,
                    .blobs = *blobs,
                    .key = *key,
                    .runner = *options.runner,
                    .datasets = datasets,
                    .metrics = metrics,
                    .worker_threads = worker_threads(options.config.server.worker_threads),
                    .blob_quota_bytes = options.config.server.blob_quota_bytes,
                    .folder = folder},
      Driver::Hooks{.now = system_now, .post = post, .wake_at = wake_at, .broken = broken});
  if (Status status = driver->recover(options.config.core); !status) return status;
  if (driver->state().trust.coordinator != key->public_key()) {
    return fail(Errc::invalid,
                (folder / "coordinator.key").string() +
                    " is not the coordinator's key of the trust document: nodes would refuse it");
  }
  return listen();
}

Status Server::Impl::open_stores() {
  if (Status status = check_room_to_open(options.folder / "store"); !status) return status;
  auto opened = open_rocksdb_store(options.folder / "store", families);
  if (!opened) return std::unexpected(told_to_mend(opened.error()));
  store = std::move(*opened);
  auto contents =
      open_file_blob_store(options.folder / "blobs", {.bytes_max = options.config.server.blob_quota_bytes});
  if (!contents) return std::unexpected(contents.error());
  blobs = std::move(*contents);
  return {};
}

Status Server::Impl::listen() {
  const ServerSettings& settings = options.config.server;
  connections = std::make_unique<Connections>(*driver, settings.limits);
  const std::size_t open_max = connections_allowed(open_files(), settings.admin_threads);
  if (Status status = connections->listen(io.get_executor(), settings.listen, *key, open_max); !status)
    return fail_to_listen(status.error(), "listen", options.folder);
  const std::string address =
      settings.public_address.empty() ? to_string(connections->local_endpoint()) : settings.public_address;
  const auto post = [this](std::function<void()> action) { asio::post(io, std::move(action)); };
  desk = std::make_unique<AdminDesk>(*driver, post, address, settings.admin_threads);
  auto served =
      AdminApi::open({settings.admin, token, settings.admin_threads, settings.admin_body_bytes_max}, *desk);
  if (!served) return fail_to_listen(served.error(), "admin", options.folder);
  api = std::move(*served);
  return {};
}

nlohmann::json Server::Impl::addresses() const {
  return {{"listen", to_string(connections->local_endpoint())}, {"admin", to_string(api->local_endpoint())}};
}

Status Server::Impl::write_run_file() const {
  nlohmann::json content = addresses();
  content["pid"] = ::getpid();
  const std::string text = content.dump() + "\n";
  return write_file_durably(options.folder / "run.json", bytes_of(text), 0644);
}

void Server::Impl::start() {
  if (options.handle_signals) {
    signals.add(SIGINT);
    signals.add(SIGTERM);
    signals.async_wait([this](const std::error_code& error, int signal) {
      if (error) return;
      log_event(LogLevel::info, "signal", {{"number", std::to_string(signal)}});
      begin_stop();
    });
  }
  driver->start(*connections);
  connections->start();
  api->start([this] { api_stopped = true; });
}

void Server::Impl::begin_stop() {
  if (std::exchange(stopping, true)) return;
  log_event(LogLevel::info, "stopping");
  driver->handle(event::ShuttingDown{});
  driver->fail_requests("the coordinator is stopping");
  api->stop();
  asio::co_spawn(io, finish_stop(), [this](const std::exception_ptr& bug) {
    RIVULET_ASSERT(!bug);
    io.stop();
  });
}

asio::awaitable<void> Server::Impl::wait_until(const std::function<bool()>& done,
                                               rivulet::Deadline deadline) {
  while (!done() && std::chrono::steady_clock::now() < deadline) {
    std::ignore = co_await sleep_until(deadline_in(5ms));
  }
}

asio::awaitable<void> Server::Impl::finish_stop() {
  const rivulet::Deadline begun = std::chrono::steady_clock::now();
  const std::function<bool()> settled = [this] { return failure || driver->settled(); };
  const std::function<bool()> silent = [this] { return api_stopped.load(); };
  co_await wait_until(settled, begun + settle_patience);
  co_await connections->close();
  co_await wait_until(settled, begun + settle_patience + 2s);  // For what the closed sessions wrote last.
  co_await wait_until(silent, begun + stop_patience);
}

// ---- Server ----------------------------------------------------------------------------------------

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::open(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  if (Status status = impl->open(); !status) return std::unexpected(status.error());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() = default;

Status Server::run(const std::function<void(const std::string& line)>& ready) {
  if (Status status = impl_->write_run_file(); !status) return status;
  impl_->start();
  nlohmann::json line = impl_->addresses();
  line["ready"] = true;
  log_event(LogLevel::info, "ready", {{"listen", to_string(listen())}, {"admin", to_string(admin())}});
  ready(line.dump());
  impl_->io.run();
  std::error_code ignored;  // Nobody can do anything about it; the next start overwrites it.
  fs::remove(impl_->options.folder / "run.json", ignored);
  log_event(LogLevel::info, "stopped");
  if (impl_->failure) return std::unexpected(*impl_->failure);
  return {};
}

void Server::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->begin_stop(); });
}

bool Server::quiet() const { return impl_->driver->idle() && impl_->api_stopped; }

Endpoint Server::listen() const { return impl_->connections->local_endpoint(); }
Endpoint Server::admin() const { return impl_->api->local_endpoint(); }

}  // namespace rivulet::coordinator
