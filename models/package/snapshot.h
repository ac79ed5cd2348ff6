#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "models/package/layout.h"
#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet {

/// The form in which the weights w_t of a version travel. What a snapshot decodes to *is* w_t: every
/// holder gets the same bits, on any machine. A sparse form decodes to what its dense one does, in fewer
/// bytes where many entries are 0; releases that prune have one.
enum class SnapshotForm : std::uint8_t { fp32, int8, sparse_fp32, sparse_int8 };
inline constexpr SnapshotForm snapshot_form_last = SnapshotForm::sparse_int8;

std::string_view name(SnapshotForm form);  ///< "fp32", "int8", "sparse_fp32" or "sparse_int8".

bool is_sparse(SnapshotForm form);
SnapshotForm dense_form(SnapshotForm form);   ///< fp32 or int8, by what the values are.
SnapshotForm sparse_form(SnapshotForm form);  ///< sparse_fp32 or sparse_int8.

/// The form in which the variant `recipe` ("fp32" or "int8") of a version in form `version` is: sparse if
/// that is, so that the variant of a version's own values is its snapshot.
SnapshotForm variant_form(std::string_view recipe, SnapshotForm version);

/// Snapshots, and the flat tensors of the variants "fp32" and "int8", which have the same forms.
///   snapshot := tensor*                           in the order of the layout, nothing after
///   tensor   := plain | quantized                 quantized in the int8 forms, if it is a parameter of at
///                                                 least two dimensions
///   plain    := entries: float32 LE
///   quantized := scale: bfloat16 LE[C], entries: int8   C = the first dimension: channels
///   entries  := entry[size]                       in a sparse form: as models/package/sparse.h has it
/// A channel's scale is max|x| / 127, rounded to the nearest bfloat16 (the upper half of a float32), halves
/// to even; the one below it if 127 times it is infinite; 0 if it is less than 2^-126. An entry is x / scale
/// in float32 rounded to the nearest, halves to even, at most 127 from 0, and 0 beside a scale of 0. It
/// decodes to float(entry) * scale, which is exact. The largest entry is always 127 from 0, so what was
/// decoded encodes to the same bytes. Source: Jacob et al. 2018, arXiv:1712.05877, symmetric form, per
/// channel.
///
/// @param weights [layout.size()]. @return invalid if one is not finite.
Result<Bytes> encode_snapshot(SnapshotForm form, const ParameterLayout& layout,
                              std::span<const float> weights);

/// @param layout  one that check() accepts.
/// @param snapshot  untrusted. @return [layout.size()]; corrupt on a wrong length, a scale or entry that
/// is not finite, a negative scale, an entry of -128 or beside a scale of 0, or entries that are not in the
/// shortest sparse coding.
Result<std::vector<float>> decode_snapshot(SnapshotForm form, const ParameterLayout& layout,
                                           ByteSpan snapshot);

/// A weight tensor as the int8 forms have it.
struct QuantizedTensor {
  std::vector<float> scales;         ///< [channels], each the value of a bfloat16.
  std::vector<std::int8_t> entries;  ///< As many as values.
};
/// @param values [channels * n], finite. @param channels at least 1.
QuantizedTensor quantize(std::span<const float> values, std::size_t channels);

/// The length in bytes of every snapshot of this layout in a dense form; the most that one in a sparse form
/// has.
std::size_t snapshot_size(SnapshotForm form, const ParameterLayout& layout);
/// Whether a snapshot of this form and layout may have so many bytes.
bool fits(SnapshotForm form, const ParameterLayout& layout, std::uint64_t bytes);

/// SHA-256 of the float32 LE bytes: the hash of w_t that manifests and updates name.
Digest weights_hash_of(std::span<const float> weights);

}  // namespace rivulet
