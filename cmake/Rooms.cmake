# How every room, program and test is built: one set of warnings, one place for the sanitizers.

add_library(ami_flags INTERFACE)
target_include_directories(ami_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(ami_flags INTERFACE _GNU_SOURCE AMI_VERSION="${PROJECT_VERSION}")
target_compile_options(ami_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Wno-gnu-zero-variadic-macro-arguments
  -fno-omit-frame-pointer)
if(AMI_SANITIZE)
  target_compile_options(ami_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(ami_flags INTERFACE -fsanitize=address,undefined)
endif()
if(AMI_FUZZ)
  target_compile_options(ami_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ami_room(NAME SOURCES... LINKS targets...): the static library ami_NAME.
function(ami_room name)
  cmake_parse_arguments(R "" "" "SOURCES;LINKS" ${ARGN})
  add_library(ami_${name} STATIC ${R_SOURCES})
  target_link_libraries(ami_${name} PUBLIC ami_flags ${R_LINKS})
endfunction()

# ami_program(NAME SOURCES... LINKS targets...): build/bin/NAME.
function(ami_program name)
  cmake_parse_arguments(P "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${P_SOURCES})
  target_link_libraries(${name} PRIVATE ami_flags ${P_LINKS})
endfunction()

# ami_test(NAME SOURCES... LINKS targets...): a cmocka test, registered with ctest.
function(ami_test name)
  cmake_parse_arguments(T "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(test-${name} ${T_SOURCES})
  target_link_libraries(test-${name} PRIVATE ami_flags PkgConfig::CMOCKA ${T_LINKS})
  set_target_properties(test-${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND test-${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600)
endfunction()

# ami_fuzz(NAME SOURCES... LINKS targets...): fuzz/fuzz-NAME, with a short run in ctest. A build with
# AMI_FUZZ (clang) gives a libFuzzer program, any other one the small driver of tests/fuzz/driver.c,
# so that every target runs in every test run. SOURCES are relative to tests/fuzz.
function(ami_fuzz name)
  cmake_parse_arguments(F "" "" "SOURCES;LINKS" ${ARGN})
  if(AMI_FUZZ)
    add_executable(fuzz-${name} ${F_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/seeds.c)
    target_link_libraries(fuzz-${name} PRIVATE ami_flags ${F_LINKS} -fsanitize=fuzzer)
    set(run -max_total_time=5 -max_len=65536 -rss_limit_mb=4096
      -artifact_prefix=${CMAKE_BINARY_DIR}/fuzz/)
  else()
    add_executable(fuzz-${name} ${F_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c)
    target_link_libraries(fuzz-${name} PRIVATE ami_flags ${F_LINKS})
    set(run -max_total_time=1)
  endif()
  set_target_properties(fuzz-${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_test(NAME fuzz-${name} COMMAND fuzz-${name} ${run})
  set_tests_properties(fuzz-${name} PROPERTIES TIMEOUT 300)
endfunction()
