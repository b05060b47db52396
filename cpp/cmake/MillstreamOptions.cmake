# What every target of the project is compiled with, as the interface target millstream_options.

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(millstream_options INTERFACE)
target_compile_features(millstream_options INTERFACE cxx_std_20)
target_compile_options(millstream_options INTERFACE
  -Wall -Wextra -Wpedantic -Wnon-virtual-dtor -Wconversion -Wno-sign-conversion
  $<$<BOOL:${MILLSTREAM_WARNINGS_ARE_ERRORS}>:-Werror>
  -fno-omit-frame-pointer
  # GCC 12 sees shadowing between a macro's local and that of a lambda in its argument, and overlaps in std::string
  # that cannot be; and it takes a source that is compiled together with others for a header with a type of its own.
  $<IF:$<CXX_COMPILER_ID:Clang>,-Wthread-safety;-Wshadow,-Wno-restrict;-Wno-subobject-linkage>)

if(MILLSTREAM_SANITIZER STREQUAL "address")
  set(_sanitize -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(MILLSTREAM_SANITIZER STREQUAL "thread")
  set(_sanitize -fsanitize=thread)
elseif(NOT MILLSTREAM_SANITIZER STREQUAL "")
  message(FATAL_ERROR "MILLSTREAM_SANITIZER is '${MILLSTREAM_SANITIZER}'; expected empty, address or thread")
endif()
if(MILLSTREAM_BUILD_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "MILLSTREAM_BUILD_FUZZERS needs Clang; the compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  list(APPEND _sanitize -fsanitize=fuzzer-no-link)
endif()
target_compile_options(millstream_options INTERFACE ${_sanitize})
target_link_options(millstream_options INTERFACE ${_sanitize})

find_program(MILLSTREAM_CCACHE ccache)
if(MILLSTREAM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MILLSTREAM_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${MILLSTREAM_CCACHE}")
endif()

# A fast linker, when there is one that this compiler can drive.
include(CheckCXXSourceCompiles)
foreach(_linker lld-19 lld mold)
  string(MAKE_C_IDENTIFIER "MILLSTREAM_HAS_${_linker}" _has)
  set(CMAKE_REQUIRED_LINK_OPTIONS "-fuse-ld=${_linker}")
  check_cxx_source_compiles("int main() { return 0; }" ${_has})
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  if(${_has})
    target_link_options(millstream_options INTERFACE "-fuse-ld=${_linker}")
    break()
  endif()
endforeach()
