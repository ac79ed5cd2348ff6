#include "tests/log_lines.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <mutex>

namespace rivulet {
namespace {

class Sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    lines_.emplace_back(message.payload.data(), message.payload.size());
  }
  void flush_() override {}

  std::vector<std::string> lines_;
};

Sink& sink() {
  static const std::shared_ptr<Sink> only = [] {
    auto made = std::make_shared<Sink>();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("rivulet", made));
    return made;
  }();
  return *only;
}

}  // namespace

std::size_t LogLines::mark() { return sink().lines().size(); }

std::vector<std::string> LogLines::since(std::size_t mark, const std::vector<std::string>& parts) {
  std::vector<std::string> found;
  const std::vector<std::string> lines = sink().lines();
  for (std::size_t i = mark; i < lines.size(); ++i) {
    const auto holds = [&](const std::string& part) {
      return (lines[i] + " ").find(part) != std::string::npos;
    };
    if (std::ranges::all_of(parts, holds)) found.push_back(lines[i]);
  }
  return found;
}

}  // namespace rivulet
