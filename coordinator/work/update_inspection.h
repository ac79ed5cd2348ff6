#pragma once

#include <expected>

#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/core/fleet.h"
#include "models/package/layout.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// The coordinates of the layout's tensors of one kind, neighbours joined.
std::vector<CoordinateRange> ranges_of(const ParameterLayout& layout, TensorKind kind);

/// Decodes an update's content once, segment by segment, and so checks every entry.
/// @return why the content is no good: wrong_layout, corrupt_content, bad_scale, not_finite.
std::expected<UpdateFacts, Refusal> inspect_update(const effect::FetchUpdate& update,
                                                   const ParameterLayout& layout, const BlobStore& blobs);

}  // namespace rivulet::coordinator
