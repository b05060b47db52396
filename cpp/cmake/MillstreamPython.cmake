# Finds the Python interpreter and pybind11 that the extension is built for: those of a wheel's build, or else of
# .venv, or else what CMake finds.
if(NOT DEFINED SKBUILD AND NOT DEFINED Python_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT DEFINED pybind11_DIR)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_package(pybind11 CONFIG)
if(NOT pybind11_FOUND)
  message(FATAL_ERROR "no pybind11 for ${Python_EXECUTABLE}: run `make setup`, or set -DMILLSTREAM_BUILD_PYTHON=OFF")
endif()
