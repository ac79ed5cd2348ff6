#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "models/dataset/byte_source.h"
#include "models/dataset/samples.h"
#include "protocol/result.h"

namespace rivulet {

/// A longer line is refused, and skipped without being kept.
inline constexpr std::size_t csv_line_bytes_max = 1 << 20;

/// Reads CSV (RFC 4180 with commas; lines end in LF or CRLF): a sample a line, its inputs the columns
/// that are neither label, group nor ignored.
///   - A byte order mark at the begin and empty lines are skipped.
///   - The first line is a header if one of its input cells is not a number, or one of its cells is a
///     column's name in the options. In a header a column is looked up by name, then as an index from 1.
///   - Cells may be quoted ("a ""b"""), but not over the end of a line: one bad line costs one sample.
///   - A line with another number of cells than the first, or an input that is empty, no number or not
///     finite as float32, is refused and the next one read.
/// @param name of the source in errors. @return invalid if a column of the options is not there; what
/// the source returns.
Result<std::unique_ptr<SampleReader>> make_csv_reader(std::unique_ptr<ByteSource> source, std::string name,
                                                      const SampleOptions& options);

/// A decimal number, rounded to float32; blanks around it and a plus sign are allowed.
/// @return invalid: empty, no number, or not finite.
Result<float> parse_float(std::string_view text);

}  // namespace rivulet
