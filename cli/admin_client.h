#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "protocol/endpoint.h"
#include "protocol/result.h"

namespace rivulet::cli {

/// Which coordinator is meant, and how to prove to be its operator.
struct ConnectionOptions {
  std::string
      admin;  ///< [http://]HOST:PORT; empty: as FOLDER/run.json says, without a folder 127.0.0.1:7480.
  std::filesystem::path folder;      ///< Of a coordinator on this machine; may be empty.
  std::filesystem::path token_file;  ///< Empty: RIVULET_ADMIN_TOKEN, else FOLDER/admin.token.
};

/// "127.0.0.1:7480" or "http://127.0.0.1:7480/". @return invalid.
Result<Endpoint> parse_admin_address(std::string_view text);

/// Calls the admin API of a coordinator. One thread at a time.
class AdminClient {
 public:
  static constexpr std::chrono::seconds patience{60};

  /// Connects with the first call. @return invalid, permission: the options or files are wrong;
  /// disconnected: no coordinator runs in the folder.
  static Result<AdminClient> open(const ConnectionOptions& options);
  AdminClient(AdminClient&&) noexcept;
  AdminClient& operator=(AdminClient&&) noexcept;
  ~AdminClient();

  /// The error that the coordinator answered, by its code; disconnected if there is none.
  Result<std::string> get(const std::string& path);
  Result<nlohmann::json> get_json(const std::string& path);
  Result<nlohmann::json> post(const std::string& path, const nlohmann::json& body,
                              std::chrono::seconds most = patience);
  /// Gives the answer line by line, as it arrives. @param take an error of it ends the call.
  Status get_lines(const std::string& path, const std::function<Status(std::string_view)>& take);

 private:
  struct Impl;
  explicit AdminClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::cli
