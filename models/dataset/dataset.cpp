#include "models/dataset/dataset.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "data/digits/digits.h"
#include "models/dataset/csv.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr std::size_t classes_max = 1 << 16;

/// "3", "03" and "3.0" are 3; nothing if it is no whole number.
std::optional<std::int64_t> whole_number(std::string_view text) {
  double value = 0.0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  if (!(std::fabs(value) <= 0x1p53) || value != std::floor(value)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

/// Gives texts numbers in the order of their first appearance.
class Names {
 public:
  std::uint32_t number_of(const std::string& name) {
    const auto [entry, added] = numbers_.try_emplace(name, static_cast<std::uint32_t>(numbers_.size()));
    if (added) names_.push_back(name);
    return entry->second;
  }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

 private:
  std::map<std::string, std::uint32_t, std::less<>> numbers_;
  std::vector<std::string> names_;
};

/// Puts classes that were numbered as they appeared into their documented order.
void sort_classes(std::vector<std::string> names, Dataset& dataset) {
  std::vector<std::pair<std::int64_t, std::string>> order;
  for (const std::string& name : names) {
    const auto number = whole_number(name);
    if (!number) break;
    order.emplace_back(*number, name);
  }
  if (order.size() != names.size()) {
    order.clear();
    for (const std::string& name : names) order.emplace_back(0, name);
  }
  std::ranges::sort(order);
  std::map<std::string, std::int64_t, std::less<>> labels;
  for (const auto& [number, name] : order) {
    // "1" and "1.0" are one class.
    const bool again = !dataset.classes.empty() && class_index(std::span(dataset.classes).last(1), name);
    if (!again) dataset.classes.push_back(name);
    labels[name] = static_cast<std::int64_t>(dataset.classes.size()) - 1;
  }
  for (std::int64_t& label : dataset.labels) label = labels[names[static_cast<std::size_t>(label)]];
}

class Collector {
 public:
  explicit Collector(const LabelRule& rule) : rule_(rule) { dataset_.classes = rule.classes; }

  Status add(const RawSample& sample) {
    dataset_.inputs.insert(dataset_.inputs.end(), sample.inputs.begin(), sample.inputs.end());
    if (sample.group) dataset_.groups.push_back(groups_.number_of(*sample.group));
    ++count_;
    if (!dataset_.groups.empty() && dataset_.groups.size() != count_) {
      return fail(Errc::invalid, "it has no group, and others do");
    }
    if (rule_.task == TaskKind::anomaly) return {};
    if (!sample.label) return fail(Errc::invalid, "the label is missing");
    return rule_.task == TaskKind::regression ? add_target(*sample.label) : add_label(*sample.label);
  }

  Dataset finish(const std::vector<std::int64_t>& shape) {
    dataset_.shape = shape;
    if (rule_.task == TaskKind::classification && rule_.classes.empty())
      sort_classes(seen_.names(), dataset_);
    return std::move(dataset_);
  }

  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  Status add_target(const std::string& label) {
    const auto value = parse_float(label);
    if (!value) return fail_at("the label", value.error());
    dataset_.targets.push_back(*value);
    return {};
  }

  Status add_label(const std::string& label) {
    if (rule_.classes.empty()) {
      dataset_.labels.push_back(seen_.number_of(label));
      if (seen_.names().size() <= classes_max) return {};
      return fail(Errc::invalid,
                  fmt::format("more than {} classes: are these labels of a regression?", classes_max));
    }
    const auto index = class_index(rule_.classes, label);
    if (!index) return fail(Errc::invalid, fmt::format("'{}' is none of the classes", label));
    dataset_.labels.push_back(*index);
    return {};
  }

  const LabelRule& rule_;
  Dataset dataset_;
  Names seen_;
  Names groups_;
  std::size_t count_ = 0;
};

}  // namespace

std::size_t Dataset::sample_size() const {
  std::size_t numbers = 1;
  for (const std::int64_t dimension : shape) numbers *= static_cast<std::size_t>(dimension);
  return numbers;
}

std::size_t Dataset::size() const { return inputs.empty() ? 0 : inputs.size() / sample_size(); }

std::span<const float> Dataset::sample(std::size_t index) const {
  RIVULET_ASSERT(index < size());
  return std::span(inputs).subspan(index * sample_size(), sample_size());
}

Result<Dataset> collect(SampleReader& reader, const LabelRule& rule) {
  Collector collector(rule);
  while (true) {
    const auto entry = reader.next();
    if (!entry) return std::unexpected(entry.error());
    if (!*entry) break;
    if (const auto* refused = std::get_if<RefusedSample>(&**entry)) {
      return fail(Errc::invalid, fmt::format("{}: {}", reader.source(), refused->describe()));
    }
    const auto& sample = std::get<RawSample>(**entry);
    if (const Status added = collector.add(sample); !added) {
      return fail_at(fmt::format("{}: line or sample {}", reader.source(), sample.position), added.error());
    }
  }
  if (collector.count() == 0) return fail(Errc::invalid, reader.source() + ": there is no sample in it");
  if (reader.shape() == std::vector<std::int64_t>{0}) {
    return fail(Errc::invalid, reader.source() + ": has no input column");
  }
  return collector.finish(reader.shape());
}

Result<Dataset> load_dataset(const std::filesystem::path& file, SampleFormat format,
                             const SampleOptions& options, const LabelRule& rule) {
  auto reader = open_samples(file, format, options);
  if (!reader) return std::unexpected(reader.error());
  return collect(**reader, rule);
}

Dataset select(const Dataset& dataset, std::span<const std::size_t> indices) {
  Dataset out;
  out.shape = dataset.shape;
  out.classes = dataset.classes;
  out.inputs.reserve(indices.size() * dataset.sample_size());
  for (const std::size_t index : indices) {
    const auto sample = dataset.sample(index);
    out.inputs.insert(out.inputs.end(), sample.begin(), sample.end());
    if (!dataset.labels.empty()) out.labels.push_back(dataset.labels[index]);
    if (!dataset.targets.empty()) out.targets.push_back(dataset.targets[index]);
    if (!dataset.groups.empty()) out.groups.push_back(dataset.groups[index]);
  }
  return out;
}

std::optional<std::int64_t> class_index(std::span<const std::string> classes, std::string_view label) {
  const auto literal = std::ranges::find(classes, label);
  if (literal != classes.end()) return literal - classes.begin();
  const auto number = whole_number(label);
  if (!number) return std::nullopt;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    if (whole_number(classes[i]) == number) return static_cast<std::int64_t>(i);
  }
  return std::nullopt;
}

Result<Dataset> embedded_digits() {
  SampleOptions options;
  options.label = "65";
  auto reader = make_csv_reader(make_memory_source(digits_csv_gz(), "the embedded digits"),
                                "the embedded digits", options);
  if (!reader) return std::unexpected(reader.error());
  return collect(**reader, LabelRule{});
}

}  // namespace rivulet
