#pragma once

#include <cstdio>
#include <cstdlib>

/// For our own bugs only (a broken precondition or invariant), never for input. On in every build:
/// stopping beats going on with a state that nobody understands.
#define RIVULET_ASSERT(condition)                                                            \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
