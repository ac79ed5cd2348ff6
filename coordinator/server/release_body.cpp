#include "coordinator/server/release_body.h"

#include <spdlog/fmt/fmt.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "coordinator/server/json_body.h"

namespace rivulet::coordinator {
namespace {

using nlohmann::json;

std::unexpected<Error> wrong(const char* key, const char* what) {
  return fail(Errc::invalid, fmt::format("\"{}\" {}", key, what));
}

/// Takes the text out of `object`: a model is not kept in two forms for longer than it must.
Result<Bytes> base64(json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return wrong(key, "must be there, a text of Base64url");
  const std::string text = std::move(found->get_ref<std::string&>());
  auto bytes = from_base64url(text);
  if (!bytes) return wrong(key, "is not Base64url");
  return std::move(*bytes);
}

Result<std::vector<float>> floats(json& object, const char* key) {
  const auto bytes = base64(object, key);
  if (!bytes) return std::unexpected(bytes.error());
  if (bytes->size() % sizeof(float) != 0) return wrong(key, "does not have 4 bytes a number");
  std::vector<float> numbers(bytes->size() / sizeof(float));
  std::memcpy(numbers.data(), bytes->data(), bytes->size());
  return numbers;
}

/// One number a sample, as a list or in Base64url.
Result<std::vector<float>> targets_of(json& data) {
  const json& found = data.at("targets");
  if (!found.is_array()) return floats(data, "targets");
  std::vector<float> numbers;
  for (const json& number : found) {
    if (!number.is_number()) return wrong("targets", "holds what is no number");
    numbers.push_back(number.get<float>());
  }
  return numbers;
}

Result<std::vector<float>> inputs_of(json& data) {
  const auto found = data.find("inputs");
  if (found == data.end() || !found->is_array()) return floats(data, "inputs");
  std::vector<float> numbers;
  for (const json& sample : *found) {
    if (!sample.is_array()) return wrong("inputs", "must be a list of samples, each a list of numbers");
    for (const json& number : sample) {
      if (!number.is_number()) return wrong("inputs", "holds what is no number");
      numbers.push_back(number.get<float>());
    }
  }
  return numbers;
}

Result<ScoringData> data_of(json& data) {
  if (!data.is_object()) return wrong("holdout\" or \"test", "must be an object");
  ScoringData out;
  auto inputs = inputs_of(data);
  if (!inputs) return std::unexpected(inputs.error());
  out.inputs = std::move(*inputs);
  if (data.contains("targets")) {
    if (data.contains("labels")) return wrong("targets", "and \"labels\" exclude each other");
    auto targets = targets_of(data);
    if (!targets) return std::unexpected(targets.error());
    out.targets = std::move(*targets);
    out.labels.resize(out.targets.size());
    return out;
  }
  const auto labels = data.find("labels");
  if (labels == data.end() || !labels->is_array()) return wrong("labels", "must be a list of integers");
  for (const json& label : *labels) {
    if (!label.is_number_integer()) return wrong("labels", "must be a list of integers");
    out.labels.push_back(label.get<std::int64_t>());
  }
  return out;
}

}  // namespace

Result<ReleaseUpload> parse_release_body(std::string body) {
  auto parsed = parse_json_object(body);
  std::string().swap(body);
  if (!parsed) return std::unexpected(parsed.error());
  json& object = *parsed;
  ReleaseUpload upload;
  const auto release = base64(object, "release");
  if (!release) return std::unexpected(release.error());
  auto envelope = decode_envelope(*release);
  if (!envelope) return wrong("release", "is not a signed release");
  upload.release = std::move(*envelope);
  auto weights = floats(object, "weights");
  if (!weights) return std::unexpected(weights.error());
  upload.weights = std::move(*weights);
  for (const auto& [key, data] : {std::pair{"holdout", &upload.holdout}, std::pair{"test", &upload.test}}) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) continue;
    auto read = data_of(*found);
    if (!read) return fail_at(key, read.error());
    *data = std::move(*read);
  }
  return upload;
}

}  // namespace rivulet::coordinator
