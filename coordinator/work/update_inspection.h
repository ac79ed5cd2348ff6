#pragma once

#include <expected>

#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/core/fleet.h"
#include "models/package/layout.h"
#include "protocol/codec/codec.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// An update's content, of which segments are read when they are needed. `blobs` outlives it.
/// @param codec its number in messages. @return unsupported, corrupt; else what reading failed with.
Result<std::unique_ptr<SegmentSource>> open_update(const BlobStore& blobs, const ContentId& content,
                                                   std::uint64_t bytes, std::uint16_t codec,
                                                   const ParameterLayout& layout);

/// What an update's content shows, or why it is no good: wrong_layout, corrupt_content, bad_scale,
/// not_finite.
using Inspection = std::expected<UpdateFacts, Refusal>;

/// Decodes an update's content once, segment by segment, and so checks every entry.
/// @return what is the fault of our own disk, and says nothing of the update: storage, not_found.
Result<Inspection> inspect_update(const effect::FetchUpdate& update, const ParameterLayout& layout,
                                  const BlobStore& blobs);

}  // namespace rivulet::coordinator
