#include "node/daemon/request_json.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

constexpr int depth_max = 16;  // Ours end at 4; what others put beside may have some more.

/// Takes the parser's events. The element of the list that is under way is a NewSample, of which an inference
/// uses the inputs alone.
class RequestReader final : public nlohmann::json_sax<Json> {
 public:
  enum class Kind : std::uint8_t { inputs, samples };

  explicit RequestReader(Kind kind) : kind_(kind), key_(kind == Kind::inputs ? "inputs" : "samples") {}

  /// @return the elements, once the parser has gone through the whole body.
  Result<std::vector<Result<NewSample>>> finish(bool parsed) && {
    if (broken_) return std::unexpected(std::move(*broken_));
    if (!parsed) return fail(Errc::invalid, "the body is no JSON");
    if (!listed_) return fail(Errc::invalid, wanted());
    return std::move(elements_);
  }

  bool null() override { return take_other(Value::null); }
  bool boolean(bool) override { return take_other(Value::other); }
  bool number_integer(std::int64_t value) override { return take_number(static_cast<double>(value), value); }
  bool number_unsigned(std::uint64_t value) override {
    return take_number(static_cast<double>(value), value);
  }
  bool number_float(double value, const std::string&) override { return take_number(value, value); }
  bool string(std::string& value) override {
    if (place_ != Place::sample) return take_other(Value::other);
    if (sample_key_ == "label") {
      sample_.label = std::move(value);
    } else if (sample_key_ == "id") {
      sample_.id = std::move(value);
    } else {
      refuse_member();
    }
    return true;
  }
  bool binary(Json::binary_t&) override { return take_other(Value::other); }

  bool key(std::string& key) override {
    if (place_ == Place::root) at_list_ = key == key_;
    if (place_ == Place::sample) sample_key_ = std::move(key);
    return true;
  }
  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  enum class Place : std::uint8_t { outside, root, list, sample, numbers, skipped };
  enum class Value : std::uint8_t { null, other, list };

  std::string wanted() const { return fmt::format("the body must be an object with a list \"{}\"", key_); }
  bool give_up(Errc code, std::string detail) {
    broken_ = Error{code, std::move(detail)};
    return false;
  }
  /// The first thing that is wrong with an element stands for all.
  void refuse(std::string why) {
    if (!wrong_) wrong_ = std::move(why);
    sample_.inputs = {};
  }
  void refuse_member() {
    const bool known = sample_key_ == "id" || sample_key_ == "label";
    if (sample_key_ == "inputs") return refuse("it is no list of numbers");
    refuse(known ? fmt::format("\"{}\" has a wrong type", sample_key_)
                 : fmt::format("\"{}\" is not known here", sample_key_.substr(0, 64)));
  }

  template <typename Number>
  bool take_number(double value, Number exact) {
    if (place_ == Place::numbers) {
      if (wrong_) return true;
      const bool fits = std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max());
      sample_.inputs.push_back(fits ? static_cast<float>(value) : std::numeric_limits<float>::infinity());
      return true;
    }
    if (place_ != Place::sample) return take_other(Value::other);
    if (sample_key_ == "label") {
      sample_.label = Json(exact).dump();
    } else {
      refuse_member();
    }
    return true;
  }

  /// What stands where it does not belong, or where it does not matter.
  bool take_other(Value value) {
    switch (place_) {
      case Place::outside: return give_up(Errc::invalid, wanted());
      case Place::root:
        if (at_list_) return give_up(Errc::invalid, wanted());
        return true;
      case Place::list:
        if (!begin_element()) return false;
        refuse(kind_ == Kind::inputs ? "it is no list of numbers" : "it is no object with \"inputs\"");
        return end_element();
      case Place::sample:
        if (value != Value::null || sample_key_ == "inputs") refuse_member();
        return true;
      case Place::numbers:
        refuse(fmt::format("number {} is no number", sample_.inputs.size() + 1));
        return true;
      case Place::skipped: return true;
    }
    return true;
  }

  bool open(bool object) {
    if (++depth_ > depth_max)
      return give_up(Errc::invalid, fmt::format("the body nests over {} deep", depth_max));
    if (place_ == Place::outside && object) return enter(Place::root);
    if (place_ == Place::root && at_list_ && !object) {
      elements_.clear();
      listed_ = true;
      return enter(Place::list);
    }
    if (place_ == Place::list && object == (kind_ == Kind::samples)) {
      return begin_element() && enter(object ? Place::sample : Place::numbers);
    }
    if (place_ == Place::sample && !object && sample_key_ == "inputs") {
      sample_.inputs.clear();
      has_inputs_ = true;
      return enter(Place::numbers);
    }
    if (place_ == Place::skipped) return true;
    if (!take_other(Value::list)) return false;
    skipped_from_ = depth_;
    after_skipped_ = place_;
    return enter(Place::skipped);
  }

  bool close() {
    --depth_;
    switch (place_) {
      case Place::skipped:
        if (depth_ < skipped_from_) place_ = after_skipped_;
        return true;
      case Place::numbers:
        if (kind_ == Kind::samples) return enter(Place::sample);
        place_ = Place::list;
        return end_element();
      case Place::sample:
        if (!has_inputs_) refuse("it is no object with \"inputs\"");
        place_ = Place::list;
        return end_element();
      case Place::list: return enter(Place::root);
      case Place::root:
      case Place::outside: return enter(Place::outside);
    }
    return true;
  }

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  bool begin_element() {
    sample_ = {};
    wrong_.reset();
    has_inputs_ = false;
    if (elements_.size() < samples_per_request_max) return true;
    return give_up(Errc::too_large,
                   fmt::format("more than {} samples in one request", samples_per_request_max));
  }
  bool end_element() {
    if (wrong_) {
      elements_.emplace_back(fail(Errc::invalid, std::move(*wrong_)));
    } else {
      elements_.emplace_back(std::move(sample_));
    }
    return true;
  }

  const Kind kind_;
  const std::string_view key_;
  Place place_ = Place::outside;
  int depth_ = 0;
  int skipped_from_ = 0;
  Place after_skipped_ = Place::outside;
  bool at_list_ = false;
  bool listed_ = false;
  std::string sample_key_;
  NewSample sample_;
  bool has_inputs_ = false;
  std::optional<std::string> wrong_;
  std::optional<Error> broken_;
  std::vector<Result<NewSample>> elements_;
};

Result<std::vector<Result<NewSample>>> read(std::string_view body, RequestReader::Kind kind) {
  RequestReader reader(kind);
  const bool parsed = Json::sax_parse(body.begin(), body.end(), &reader);
  return std::move(reader).finish(parsed);
}

}  // namespace

Result<std::vector<Result<std::vector<float>>>> read_inputs(std::string_view body) {
  auto elements = read(body, RequestReader::Kind::inputs);
  if (!elements) return std::unexpected(elements.error());
  std::vector<Result<std::vector<float>>> inputs;
  inputs.reserve(elements->size());
  for (auto& element : *elements) {
    inputs.push_back(element ? Result<std::vector<float>>(std::move(element->inputs))
                             : std::unexpected(std::move(element.error())));
  }
  return inputs;
}

Result<std::vector<Result<NewSample>>> read_samples(std::string_view body) {
  return read(body, RequestReader::Kind::samples);
}

}  // namespace rivulet::node
