#include "coordinator/work/variants.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "models/package/snapshot.h"

namespace rivulet::coordinator {
namespace {

const ScoringData* if_any(const ScoringData* data) {
  return data != nullptr && !data->labels.empty() ? data : nullptr;
}

/// Why a variant is worse than it may be; nothing if it is not.
std::optional<std::string> find_fall(TaskKind task, const Metrics& version, const Metrics& variant,
                                     double tolerance) {
  if (!std::isfinite(variant.loss)) return "an answer of it is not finite";
  if (task == TaskKind::classification) {
    if (variant.accuracy >= version.accuracy - tolerance) return std::nullopt;
    return fmt::format("accuracy on the holdout falls from {:.4f} to {:.4f}, and {} is allowed",
                       version.accuracy, variant.accuracy, tolerance);
  }
  if (variant.loss <= version.loss * (1 + tolerance)) return std::nullopt;
  return fmt::format("the loss on the holdout rises from {:.4g} to {:.4g}, and {} of it is allowed",
                     version.loss, variant.loss, tolerance);
}

class Deriving {
 public:
  Deriving(const Release& release, std::span<const float> weights, const VariantData& data, double tolerance,
           ModelRunner& runner, BlobStore& blobs, std::vector<ContentId>& stored)
      : release_(release),
        weights_(weights),
        holdout_(if_any(data.holdout)),
        test_(if_any(data.test)),
        tolerance_(tolerance),
        runner_(runner),
        blobs_(blobs),
        stored_(stored) {
    if (holdout_ == nullptr) return;
    // One that cannot be scored was not gated by its score either.
    if (const auto metrics = runner_.score(release_, weights_, *holdout_)) version_ = *metrics;
  }

  Status derive(const std::string& recipe) {
    const SnapshotForm form = variant_form(recipe, release_.snapshot);
    auto bytes = encode_snapshot(form, release_.layout, weights_);
    if (!bytes) return std::unexpected(bytes.error());
    const auto served = decode_snapshot(form, release_.layout, *bytes);
    if (!served) return std::unexpected(served.error());
    const auto fall = find_fall_of(*served);
    if (!fall) return std::unexpected(fall.error());
    if (*fall) {
      derived_.left_out.push_back({recipe, **fall});
      return {};
    }
    VariantInfo variant;
    variant.name = recipe;
    variant.content = content_id_of(*bytes);
    variant.bytes = bytes->size();
    if (Status status = blobs_.put(variant.content, *bytes); !status) return status;
    stored_.push_back(variant.content);
    *bytes = Bytes();  // The network that comes now is as large.
    auto answers = runner_.answers(release_, *served, release_.known_inputs);
    if (!answers) return std::unexpected(answers.error());
    variant.known_outputs = std::move(*answers);
    variant.tolerance = float_tolerance_of(release_.task, variant.known_outputs);
    if (dense_form(form) == SnapshotForm::int8) {
      variant.own_ranges = holdout_ == nullptr || release_.batch_norm == BatchNorm::local;
      if (!variant.own_ranges) add_int8_kernels(variant, *served);
    }
    if (!variant.accuracy && test_ != nullptr) {
      const auto metrics = runner_.score(release_, *served, *test_);
      if (!metrics) return std::unexpected(metrics.error());
      set_accuracy(variant, *metrics);
    }
    const ActivationRanges* ranges = variant.int8_kernels ? &variant.int8_kernels->ranges : nullptr;
    const auto cost = runner_.cost(release_, *served, ranges);
    if (!cost) return std::unexpected(cost.error());
    if (*cost) {
      variant.activation_bytes = (*cost)->activation_bytes;
      variant.microseconds = (*cost)->microseconds;
    }
    if (variant.own_ranges && *cost) {
      // Nodes take what is faster; the memory stays that of float, in which those with few samples run it.
      const auto in_int8 = runner_.own_int8_time(release_, *served);
      variant.microseconds = std::min(variant.microseconds, in_int8.value_or(variant.microseconds));
    }
    derived_.variants.push_back(std::move(variant));
    return {};
  }

  DerivedVariants take() && { return std::move(derived_); }

 private:
  /// Values are near or far, not right.
  void set_accuracy(VariantInfo& variant, const Metrics& metrics) const {
    if (release_.task == TaskKind::classification) variant.accuracy = metrics.accuracy;
  }

  Result<std::optional<std::string>> find_fall_of(const std::vector<float>& served) {
    if (!version_ || std::ranges::equal(served, weights_)) return std::nullopt;
    const auto metrics = runner_.score(release_, served, *holdout_);
    if (!metrics) return std::unexpected(metrics.error());
    return find_fall(release_.task, *version_, *metrics, tolerance_);
  }

  void add_int8_kernels(VariantInfo& variant, const std::vector<float>& served) {
    auto outcome = runner_.run_in_int8(release_, served, *holdout_, test_);
    const auto leave_out = [&](const std::string& why) {
      derived_.left_out.push_back({variant.name + " kernels", why});
    };
    if (!outcome) return leave_out(outcome.error().detail);
    if (!*outcome) return;
    Int8Outcome& int8 = **outcome;
    if (version_) {
      if (const auto why = find_fall(release_.task, *version_, int8.holdout, tolerance_))
        return leave_out(*why);
    }
    const float tolerance = int8_tolerance_of(release_.task, variant.known_outputs);
    variant.int8_kernels = Int8Kernels{std::move(int8.ranges), std::move(int8.known_outputs), tolerance};
    if (int8.test) set_accuracy(variant, *int8.test);
  }

  const Release& release_;
  std::span<const float> weights_;
  const ScoringData* holdout_;
  const ScoringData* test_;
  double tolerance_;
  ModelRunner& runner_;
  BlobStore& blobs_;
  std::vector<ContentId>& stored_;
  std::optional<Metrics> version_;  // on the holdout, in float
  DerivedVariants derived_;
};

}  // namespace

Result<DerivedVariants> derive_variants(const Release& release, std::span<const float> weights,
                                        const VariantData& data, double tolerance, ModelRunner& runner,
                                        BlobStore& blobs, std::vector<ContentId>& stored) {
  Deriving deriving(release, weights, data, tolerance, runner, blobs, stored);
  for (const std::string& recipe : release.recipes) {
    if (Status status = deriving.derive(recipe); !status) {
      return fail_at("variant " + recipe, status.error());
    }
  }
  DerivedVariants derived = std::move(deriving).take();
  if (derived.variants.empty() && !derived.left_out.empty()) {
    const LeftOut& first = derived.left_out.front();
    return fail(Errc::refused, "no variant is good enough to serve: " + first.what + ": " + first.why);
  }
  return derived;
}

}  // namespace rivulet::coordinator
