# What every target of ours is compiled with: link rivulet::options PRIVATE (rivulet_library and its
# kin do it).
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Without the sloppiness ccache would never keep a file that uses a precompiled header. Paths are taken
  # relative to the checkout, so that a second clone finds what the first one compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(rivulet_options INTERFACE)
add_library(rivulet::options ALIAS rivulet_options)
target_compile_options(rivulet_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror
  # GCC 12 reports false positives of these in std::variant, std::expected and coroutine frames.
  -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-dangling-pointer)
if(RIVULET_TESTS)
  target_compile_definitions(rivulet_options INTERFACE RIVULET_CRASH_POINTS=1)
endif()

if(RIVULET_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(RIVULET_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  add_link_options(-fsanitize=thread)
elseif(RIVULET_SANITIZE)
  message(FATAL_ERROR "RIVULET_SANITIZE is '${RIVULET_SANITIZE}'; it takes address or thread")
endif()
