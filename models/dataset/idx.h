#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "models/dataset/byte_source.h"
#include "models/dataset/samples.h"
#include "protocol/result.h"

namespace rivulet {

/// One sample may not have more numbers; bounds what a header can make us allocate.
inline constexpr std::uint64_t idx_sample_numbers_max = 1 << 24;

/// Reads IDX as MNIST has it (LeCun et al. 1998), big-endian:
///   file   := 0, 0, type: u8, rank: u8[1..8], dimension: u32[rank], number[product of dimensions]
///   type   := 0x08 unsigned byte | 0x0b signed 16-bit
/// The first dimension counts samples. Nothing is allocated for it: only what is there is read.
/// @param labels  IDX of rank 1 and unsigned bytes, one a sample; null: no labels.
/// @return corrupt for anything else in the header, and from next() for a file that ends early or goes
/// on behind its last sample; unsupported for another type; invalid if the labels have another count.
Result<std::unique_ptr<SampleReader>> make_idx_reader(std::unique_ptr<ByteSource> source, std::string name,
                                                      std::unique_ptr<ByteSource> labels,
                                                      std::string labels_name, const SampleOptions& options);

/// The existing file of labels beside "…-images-idx3-ubyte": "…-labels-idx1-ubyte", ".gz" or not.
std::optional<std::filesystem::path> idx_labels_beside(const std::filesystem::path& images);

}  // namespace rivulet
