#include "coordinator/aggregation/accumulate.h"

#include <cstdint>

#include "protocol/assert.h"

// Compiles the code between HWY_BEFORE_NAMESPACE and HWY_AFTER_NAMESPACE once for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "coordinator/aggregation/accumulate.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace rivulet::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void accumulate_vectors(double* HWY_RESTRICT sums, const float* HWY_RESTRICT values, std::size_t size,
                        float factor) {
  std::size_t i = 0;
  const auto add_one = [&] {
    sums[i] += static_cast<double>(factor) * static_cast<double>(values[i]);
    ++i;
  };
#if HWY_HAVE_FLOAT64
  const hn::ScalableTag<double> doubles;
  const hn::Rebind<float, decltype(doubles)> floats;
  const std::size_t lanes = hn::Lanes(doubles);
  const auto wide_factor = hn::Set(doubles, static_cast<double>(factor));
  // From here on no access to the sums straddles two cache lines.
  while (i < size && reinterpret_cast<std::uintptr_t>(sums + i) % (lanes * sizeof(double)) != 0) add_one();
  for (; i + lanes <= size; i += lanes) {
    const auto value = hn::PromoteTo(doubles, hn::LoadU(floats, values + i));
    hn::Store(hn::MulAdd(value, wide_factor, hn::Load(doubles, sums + i)), doubles, sums + i);
  }
#endif
  while (i < size) add_one();
}

}  // namespace rivulet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rivulet {

HWY_EXPORT(accumulate_vectors);

void accumulate(std::span<double> sums, std::span<const float> values, float factor) {
  RIVULET_ASSERT(sums.size() == values.size());
  HWY_DYNAMIC_DISPATCH(accumulate_vectors)(sums.data(), values.data(), values.size(), factor);
}

}  // namespace rivulet
#endif  // HWY_ONCE
