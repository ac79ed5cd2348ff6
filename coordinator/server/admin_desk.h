#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>

#include "coordinator/server/driver.h"
#include "coordinator/server/release_import.h"

namespace rivulet::coordinator {

/// Where threads of the admin API ask the driver's thread, and wait for its answer. Thread-safe; not to
/// be called on the driver's thread.
class AdminDesk {
 public:
  using Json = nlohmann::json;
  /// Until a busy coordinator says so.
  static constexpr std::chrono::seconds patience{10};
  static constexpr std::chrono::seconds import_patience{600};

  /// @param post runs an action on the driver's thread. Both outlive the desk.
  /// @param threads that serve the API.
  AdminDesk(Driver& driver, std::function<void(std::function<void()>)> post, std::string node_address,
            std::size_t threads)
      : driver_(driver), post_(std::move(post)), node_address_(std::move(node_address)), threads_(threads) {}

  /// @param question runs on the driver's thread. @return its answer; timeout.
  template <typename T>
  Result<T> ask(std::function<Result<T>(Driver&)> question) {
    const auto promise = std::make_shared<std::promise<Result<T>>>();
    auto answer = promise->get_future();
    post_([this, promise, question = std::move(question)] { promise->set_value(question(driver_)); });
    return wait(answer, patience);
  }

  /// @param make gives the event. @return its effect::Reply; timeout, after which the command may still
  /// be carried out.
  Result<Json> command(std::function<Event(RequestId)> make, std::chrono::seconds most = patience) {
    const auto promise = std::make_shared<std::promise<Result<Json>>>();
    auto answer = promise->get_future();
    post_([this, promise, make = std::move(make)] {
      driver_.request(make, [promise](Result<Json> reply) { promise->set_value(std::move(reply)); });
    });
    return wait(answer, most);
  }

  /// Checks and stores the release on the worker thread, and hands it to the core. @return busy while
  /// another one is imported, since the data of both may belong to one release.
  Result<Json> import_release(ReleaseUpload upload);

  /// HOST:PORT in join tokens.
  [[nodiscard]] const std::string& node_address() const { return node_address_; }
  /// How many calls wait for rounds to end, …
  [[nodiscard]] std::atomic<std::size_t>& waiting() { return waiting_; }
  /// … and how many may: each holds a thread, and as many are left for all other calls.
  [[nodiscard]] std::size_t waiting_max() const { return std::max<std::size_t>(threads_ / 2, 1); }

 private:
  struct Import;
  void hand_over(const std::shared_ptr<Import>& import, Result<event::ImportRelease> event);
  void finish(Import& import, Result<Json> reply);

  template <typename T>
  static Result<T> wait(std::future<Result<T>>& answer, std::chrono::seconds most) {
    if (answer.wait_for(most) != std::future_status::ready) {
      return fail(Errc::timeout,
                  "the coordinator did not answer within " + std::to_string(most.count()) + " s");
    }
    try {
      return answer.get();
    } catch (const std::future_error&) {
      return fail(Errc::cancelled, "the coordinator is stopping");
    }
  }

  Driver& driver_;
  std::function<void(std::function<void()>)> post_;
  std::string node_address_;
  std::size_t threads_;
  std::atomic<std::size_t> waiting_ = 0;
  bool importing_ = false;  // On the driver's thread.
};

}  // namespace rivulet::coordinator
