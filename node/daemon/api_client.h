#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "node/daemon/sample_store.h"
#include "protocol/result.h"

namespace rivulet::node {

/// The daemon of a folder, reached through its API. Not thread-safe.
class ApiClient {
 public:
  /// @return nothing if no process holds the folder, or it has not joined; conflict if one does for
  /// folder_patience that has no API. The token goes to the process alone that holds the folder.
  static Result<std::optional<ApiClient>> find(const std::filesystem::path& folder);

  ApiClient(const std::string& address, std::string token);
  ~ApiClient();
  ApiClient(ApiClient&&) noexcept;
  ApiClient& operator=(ApiClient&&) noexcept;

  /// Durable when it returns.
  Result<AddOutcome> add_samples(std::span<const NewSample> samples);
  /// @return a line of JSON for each sample, numbered from `first_index`.
  Result<std::vector<std::string>> infer(std::span<const std::vector<float>> samples,
                                         std::uint64_t first_index);
  /// @return one JSON document.
  Result<std::string> status();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::node
