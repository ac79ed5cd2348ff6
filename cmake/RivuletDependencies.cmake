# Every library that we use, as a target. scripts/setup.sh installs them by Debian's names.
#
# Under their own names: OpenSSL::{Crypto,SSL}, ZLIB::ZLIB, CapnProto::capnp, nlohmann_json::nlohmann_json,
# spdlog::spdlog, CLI11::CLI11, tomlplusplus::tomlplusplus, hwy::hwy, PkgConfig::SODIUM, PkgConfig::ZSTD.
# Under ours, because flags or choices hang on them: rivulet::asio, rivulet::rocksdb, rivulet::httplib,
# rivulet::prometheus, rivulet::torch.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(CapnProto REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(hwy REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

# pkg-config, since the CMake package brings the static library, which asks for five others.
pkg_check_modules(ROCKSDB REQUIRED IMPORTED_TARGET rocksdb)
add_library(rivulet::rocksdb ALIAS PkgConfig::ROCKSDB)

# pkg-config, since the CMake package wants civetweb and curl, for a server and a client that we don't use.
pkg_check_modules(PROMETHEUS REQUIRED IMPORTED_TARGET prometheus-cpp-core)
add_library(rivulet::prometheus ALIAS PkgConfig::PROMETHEUS)

# The compiled library has OpenSSL, zlib and Brotli switched on. Its classes change their layout with these
# switches, so a file compiled without the flags from pkg-config would corrupt the heap.
pkg_check_modules(HTTPLIB REQUIRED IMPORTED_TARGET cpp-httplib)
add_library(rivulet_httplib INTERFACE)
target_link_libraries(rivulet_httplib INTERFACE PkgConfig::HTTPLIB OpenSSL::SSL ZLIB::ZLIB Threads::Threads)
add_library(rivulet::httplib ALIAS rivulet_httplib)

find_path(ASIO_INCLUDE_DIR asio/awaitable.hpp)
if(NOT ASIO_INCLUDE_DIR)
  message(FATAL_ERROR "asio/awaitable.hpp was not found: install libasio-dev, or run scripts/setup.sh")
endif()
add_library(rivulet_asio INTERFACE)
target_include_directories(rivulet_asio SYSTEM INTERFACE ${ASIO_INCLUDE_DIR})
# Asio 1.22 decides on std::aligned_alloc by what was included before it, so that one file would allocate with it
# and another free with operator delete: nowhere, then.
target_compile_definitions(rivulet_asio INTERFACE
  ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_DISABLE_STD_ALIGNED_ALLOC)
target_link_libraries(rivulet_asio INTERFACE Threads::Threads)
# GCC 12 takes the frames of Asio's coroutines, which come from Asio's own operator new, for wrongly freed.
target_compile_options(rivulet_asio INTERFACE -Wno-mismatched-new-delete)
add_library(rivulet::asio ALIAS rivulet_asio)

# Header-only. It brings an Asio of its own, which no file mixes with the one above.
find_package(Boost 1.74 REQUIRED)
add_library(rivulet_beast INTERFACE)
target_link_libraries(rivulet_beast INTERFACE Boost::headers Threads::Threads)
add_library(rivulet::beast ALIAS rivulet_beast)

# In a function, so that the dozens of variables which Torch's package sets end with it.
function(rivulet_find_torch)
  find_package(Torch REQUIRED)
  add_library(rivulet_torch INTERFACE)
  target_include_directories(rivulet_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(rivulet_torch INTERFACE ${TORCH_LIBRARIES})
  # Lines without variables for the debugger: full information on LibTorch's templates doubles the compile time.
  target_compile_options(rivulet_torch INTERFACE $<$<CONFIG:RelWithDebInfo>:-g1>)
  add_library(rivulet::torch ALIAS rivulet_torch)
endfunction()
rivulet_find_torch()

# rivulet_torch_pch(TARGET): <torch/script.h> comes precompiled; it is compiled once for all targets. GCC takes
# such a header only under the same compiler flags, which -Winvalid-pch (an error here) makes sure of.
# <torch/torch.h> is left out on purpose: GCC instantiates and emits what a precompiled header uses in every file
# anew, which costs 4 s with script.h and 14 s with both. torch/nn and torch/optim can be included by the piece.
function(rivulet_torch_pch target)
  if(NOT TARGET rivulet_torch_header)
    set(source ${PROJECT_BINARY_DIR}/cmake/torch_header.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "// Exists so that the precompiled header has a target.\n")
    add_library(rivulet_torch_header OBJECT ${source})
    target_link_libraries(rivulet_torch_header PRIVATE rivulet::options rivulet::torch)
    target_precompile_headers(rivulet_torch_header PRIVATE <torch/script.h>)
    target_compile_options(rivulet_torch_header PRIVATE -fpch-preprocess)  # What ccache asks for.
  endif()
  target_precompile_headers(${target} REUSE_FROM rivulet_torch_header)
  target_compile_options(${target} PRIVATE -fpch-preprocess)
  if(NOT RIVULET_SANITIZE)  # Tests are compiled at another level, for which the header would have to be anew.
    target_compile_options(${target} PRIVATE $<$<CONFIG:RelWithDebInfo>:-O2>)
  endif()
endfunction()

# libtorch-dev brings the reference BLAS, whose matrix products take 15 times as long as OpenBLAS's.
file(REAL_PATH /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/libblas.so.3 blas)
if(blas MATCHES "/blas/libblas")
  message(WARNING "The system's BLAS is the slow reference one (${blas}): install libopenblas0-pthread")
endif()
