#include "data/digits/digits.h"

// The assembler copies the file in: an array of 57,512 initialisers would be slower and need a generator.
asm(".pushsection .rodata\n"
    ".balign 16\n"
    "rivulet_digits_begin:\n"
    ".incbin \"" RIVULET_DIGITS_FILE
    "\"\n"
    "rivulet_digits_end:\n"
    ".global rivulet_digits_begin\n"
    ".global rivulet_digits_end\n"
    ".popsection\n");

extern "C" const std::byte rivulet_digits_begin[];
extern "C" const std::byte rivulet_digits_end[];

namespace rivulet {

ByteSpan digits_csv_gz() { return {rivulet_digits_begin, rivulet_digits_end}; }

}  // namespace rivulet
