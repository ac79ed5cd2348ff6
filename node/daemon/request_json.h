#pragma once

#include <string_view>
#include <vector>

#include "node/daemon/sample_store.h"
#include "protocol/result.h"

/// The JSON bodies of the API's requests, read without a document in between: what a body makes us hold is a
/// small multiple of its length, however it nests.
namespace rivulet::node {

inline constexpr std::size_t samples_per_request_max = 100'000;

/// {"inputs":[[…],…]}: the numbers of each sample, or what is wrong with it. What float32 cannot hold is
/// infinite. Other keys of the object are passed over.
/// @param body untrusted. @return invalid unless it is such an object; too_large above
/// samples_per_request_max.
Result<std::vector<Result<std::vector<float>>>> read_inputs(std::string_view body);

/// {"samples":[{"inputs":[…],"label":…,"id":…},…]}: each sample, or what is wrong with it.
Result<std::vector<Result<NewSample>>> read_samples(std::string_view body);

}  // namespace rivulet::node
