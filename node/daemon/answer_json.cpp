#include "node/daemon/answer_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace rivulet::node {

using Json = nlohmann::json;

Json error_json(std::uint64_t index, const std::string& error) {
  return {{"index", index}, {"error", error}};
}

Json answer_json(const Answers& answers, std::size_t place, std::uint64_t index) {
  const auto& result = answers.results[place];
  if (!result) return error_json(index, result.error().detail);
  Json json = {{"index", index},
               {"version", answers.served->version},
               {"variant", answers.served->variant},
               {"microseconds", std::round(10 * answers.microseconds) / 10}};
  const auto& classes = answers.served->model.spec().classes;
  if (result->class_index >= 0) {
    const auto at = static_cast<std::size_t>(result->class_index);
    json["class"] = at < classes.size() ? Json(classes[at]) : Json(result->class_index);
    json["probabilities"] = result->probabilities;
  } else if (result->value.size() == 1) {
    json["value"] = result->value[0];
  } else {
    json["value"] = result->value;
  }
  return json;
}

std::string one_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace rivulet::node
