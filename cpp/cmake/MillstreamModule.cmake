# millstream_module(NAME LAYER n SRCS … HDRS … DEPS millstream::… PRIVATE_DEPS …): one call per module.
#
# NAME          the module; makes the target millstream_NAME and the alias millstream::NAME
# LAYER         its layer; every dependency named millstream::X must have a strictly lower one
# SRCS          sources, relative to the module's folder; none makes a header-only module
# HDRS          public headers, below include/millstream/NAME/
# DEPS          what users of the headers need too; PRIVATE_DEPS what only the sources need
#
# A dependency that is not strictly lower is an error when CMake configures. With tests on and no sanitizer, every
# public header is compiled alone.
function(millstream_module NAME)
  cmake_parse_arguments(ARG "" "LAYER" "SRCS;HDRS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "millstream_module(${NAME}): unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT ARG_LAYER MATCHES "^[0-7]$")
    message(FATAL_ERROR "millstream_module(${NAME}): LAYER must be 0 to 7, not '${ARG_LAYER}'")
  endif()

  set(target millstream_${NAME})
  if(ARG_SRCS)
    add_library(${target} STATIC ${ARG_SRCS})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE millstream_options)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(millstream::${NAME} ALIAS ${target})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_include_directories(${target} ${scope} "${CMAKE_CURRENT_SOURCE_DIR}/include")
  set_property(GLOBAL PROPERTY millstream_layer_${NAME} ${ARG_LAYER})

  foreach(dependency IN LISTS ARG_DEPS ARG_PRIVATE_DEPS)
    if(dependency MATCHES "^millstream::(.+)$")
      set(other ${CMAKE_MATCH_1})
      get_property(other_layer GLOBAL PROPERTY millstream_layer_${other})
      if("${other_layer}" STREQUAL "")
        message(FATAL_ERROR "module ${NAME} depends on ${other}, which is not a module defined before it")
      endif()
      if(NOT other_layer LESS ARG_LAYER)
        message(FATAL_ERROR
          "layering: ${NAME} (layer ${ARG_LAYER}) may not depend on ${other} (layer ${other_layer})")
      endif()
    endif()
  endforeach()
  target_link_libraries(${target} ${scope} ${ARG_DEPS})
  if(ARG_PRIVATE_DEPS)
    target_link_libraries(${target} PRIVATE ${ARG_PRIVATE_DEPS})
  endif()

  if(MILLSTREAM_BUILD_TESTS AND ARG_HDRS AND NOT MILLSTREAM_SANITIZER)
    set(checks)
    foreach(header IN LISTS ARG_HDRS)
      string(REGEX REPLACE "^include/" "" included "${header}")
      string(MAKE_C_IDENTIFIER "${included}" stem)
      set(check "${CMAKE_CURRENT_BINARY_DIR}/header_alone/${stem}.cc")
      file(CONFIGURE OUTPUT "${check}" CONTENT "#include \"${included}\"\n" @ONLY)
      list(APPEND checks "${check}")
    endforeach()
    add_library(${target}_headers_alone OBJECT ${checks})
    set_target_properties(${target}_headers_alone PROPERTIES UNITY_BUILD OFF)
    target_link_libraries(${target}_headers_alone PRIVATE ${target} millstream_options)
  endif()
endfunction()

# millstream_test(NAME SRCS … DEPS … [LABELS unit|golden|sim|fuzz|e2e|slow]): one GoogleTest program per module.
function(millstream_test NAME)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;LABELS" ${ARGN})
  find_package(GTest REQUIRED)
  include(GoogleTest)
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${NAME} ${ARG_SRCS})
  target_link_libraries(${NAME} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main millstream_options)
  gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
endfunction()
