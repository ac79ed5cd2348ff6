#pragma once

#include "protocol/bytes.h"

namespace rivulet {

/// The file digits.csv.gz beside this header, embedded in the program: gzip CSV without a header, 1,797
/// lines of 64 pixels from 0 to 16 and the digit. Origin and licence: data/digits/README.md.
ByteSpan digits_csv_gz();

}  // namespace rivulet
