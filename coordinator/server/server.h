#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "coordinator/server/config_file.h"
#include "coordinator/work/model_runner.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// The coordinator daemon on one folder: D/store, D/blobs, D/datasets, nodes' connections and the admin
/// API. It never opens D/offline.
class Server {
 public:
  struct Options {
    std::filesystem::path folder;
    ConfigFile config;
    std::unique_ptr<ModelRunner> runner;
    /// Whether SIGTERM and SIGINT call stop().
    bool handle_signals = false;
  };

  /// Locks the folder, recovers the fleet and listens.
  /// @return conflict if another process has the folder or an address; permission for keys that others
  /// may read; not_found for a folder without a fleet; corrupt, storage.
  static Result<std::unique_ptr<Server>> open(Options options);
  /// Waits for what is under way: see quiet().
  ~Server();

  /// Serves until stop(), on the calling thread; call it once. D/run.json is there meanwhile:
  /// {"pid","listen","admin"}. @param ready is called with the line {"ready","listen","admin"} once both
  /// addresses answer. @return storage if the disk failed.
  Status run(const std::function<void(const std::string& line)>& ready);
  /// Tells nodes to come back later, makes durable what was promised, and ends run(), within 8 s. Any thread.
  void stop();

  /// Whether no thread has a job any more. After run() a job that goes on, such as an aggregation, may be
  /// abandoned by ending the process: the next start asks for it again.
  [[nodiscard]] bool quiet() const;

  [[nodiscard]] Endpoint listen() const;
  [[nodiscard]] Endpoint admin() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::coordinator
