#pragma once

// Debian 12 has Catch2 v2, Debian 13 v3: the tests include this and use what both have.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
