# rivulet_library(NAME SOURCES … HEADERS … [LINKS …] [PRIVATE_LINKS …])
# A static library rivulet_NAME with the alias rivulet::NAME. Headers are included by their path from
# the repository's root ("protocol/result.h"); each is proven self-contained by the target
# all_verify_interface_header_sets.
function(rivulet_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;HEADERS;LINKS;PRIVATE_LINKS" ${ARGN})
  set(target rivulet_${name})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
    target_link_libraries(${target} PUBLIC ${ARG_LINKS} PRIVATE rivulet::options ${ARG_PRIVATE_LINKS})
    target_sources(${target} PUBLIC
      FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${ARG_HEADERS})
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} INTERFACE ${ARG_LINKS})
  endif()
  add_library(rivulet::${name} ALIAS ${target})
endfunction()

# rivulet_program(NAME SOURCES … LINKS …): an executable with exactly that name, in build/…/bin.
function(rivulet_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE rivulet::options ${ARG_LINKS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# rivulet_test(NAME SOURCES … [LINKS …] [LABELS …] [TIMEOUT seconds])
# One Catch2 program, run by ctest as one test from the repository's root. With the label `sanitize` it belongs
# to the target sanitize_tests: what ./test.sh --asan and --tsan build and run.
function(rivulet_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINKS;LABELS" ${ARGN})
  set(target ${name}_test)
  add_executable(${target} ${ARG_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_link_libraries(${target} PRIVATE rivulet::options rivulet_catch ${ARG_LINKS})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  if("sanitize" IN_LIST ARG_LABELS)
    if(NOT TARGET sanitize_tests)
      add_custom_target(sanitize_tests)
    endif()
    add_dependencies(sanitize_tests ${target})
  endif()
endfunction()

# rivulet_python_test(NAME ARGUMENTS… [LABELS …] [TIMEOUT seconds]): a script and its arguments, run by ctest
# from the repository's root under the system's Python, which is the one that has python3-numpy. Alone, since many
# of them start a whole fleet.
function(rivulet_python_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND /usr/bin/python3 ${ARG_UNPARSED_ARGUMENTS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" RUN_SERIAL ON)
endfunction()

# rivulet_capnp(NAME FILE): the code that Cap'n Proto makes of FILE, included by FILE's path and ".h",
# compiled without our warnings.
function(rivulet_capnp name file)
  set(CAPNPC_SRC_PREFIX ${PROJECT_SOURCE_DIR})
  set(CAPNPC_OUTPUT_DIR ${PROJECT_BINARY_DIR})
  capnp_generate_cpp(sources headers ${file})
  add_library(rivulet_${name} STATIC ${sources} ${headers})
  target_include_directories(rivulet_${name} SYSTEM PUBLIC ${PROJECT_BINARY_DIR})
  target_link_libraries(rivulet_${name} PUBLIC CapnProto::capnp)
  add_library(rivulet::${name} ALIAS rivulet_${name})
endfunction()
