# Tests: each tests/X_test.c is a program, together with tests/fuzz/X_fuzz.c if that exists; tests/support/*.c is linked
# into all of them; tests/kernels/*.c is one program; tests/*.sh get the build folder.
# All run from the root of the project; tests/run.sh counts them.
enable_testing()
find_path(CMOCKA_INCLUDE cmocka.h)
find_library(CMOCKA_LIBRARY cmocka)

file(GLOB test_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*_test.c)
file(GLOB support_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/*.c)
file(GLOB kernel_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/kernels/*.c)
file(GLOB fuzz_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.c)

# A huge request must come back as NULL, as without the sanitizer: it is a case that tests provoke.
set(test_environment
  "ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1;UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=halt_on_error=1")

# Only a test that hangs should meet its limit, also on a busy machine.
set(test_seconds 900)
if(TANDEM_SANITIZE)
  set(test_seconds 3600)
endif()

function(tandem_add_test name)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${test_environment}" TIMEOUT ${test_seconds})
endfunction()

if(TANDEM_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "TANDEM_FUZZ needs clang: cmake --preset fuzz")
  endif()
  foreach(file ${fuzz_files})
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} ${file})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE tandem_flags tandem_static)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endforeach()
  return()
endif()

if(CMOCKA_INCLUDE AND CMOCKA_LIBRARY)
  foreach(file ${test_files})
    get_filename_component(name ${file} NAME_WE)
    string(REGEX REPLACE "_test$" "" subject ${name})
    add_executable(${name} ${file} ${support_files})
    if(EXISTS ${PROJECT_SOURCE_DIR}/tests/fuzz/${subject}_fuzz.c)
      target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/${subject}_fuzz.c)
    endif()
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${CMOCKA_INCLUDE})
    target_link_libraries(${name} PRIVATE tandem_flags tandem_static ${CMOCKA_LIBRARY})
    tandem_add_test(${name})
  endforeach()
elseif(test_files)
  message(STATUS "cmocka was not found: tests/*_test.c are not built (Debian: libcmocka-dev)")
endif()

if(kernel_files)
  add_executable(kernels_check ${kernel_files})
  target_include_directories(kernels_check PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(kernels_check PRIVATE tandem_flags tandem_static)
  tandem_add_test(kernels_check)
endif()

# Shell tests get the build folder. Those labelled "plain" look at sources or at the libraries as shipped.
file(GLOB script_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*.sh)
list(REMOVE_ITEM script_files ${PROJECT_SOURCE_DIR}/tests/run.sh)
foreach(file ${script_files})
  get_filename_component(name ${file} NAME_WE)
  add_test(NAME ${name} COMMAND sh ${file} ${PROJECT_BINARY_DIR} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${test_environment}" TIMEOUT ${test_seconds})
  if(name MATCHES "^(layers|headers|style|symbols|install_test)$")
    set_tests_properties(${name} PROPERTIES LABELS plain)
  endif()
endforeach()
