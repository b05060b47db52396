// From Status to the classes of millstream.errors.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <utility>

#include "millstream/base/result.h"
#include "millstream/base/status.h"

namespace millstream::pybind {

// Carries a Status through pybind11 to the translator; nothing else in the core throws.
class StatusError final : public std::exception {
 public:
  explicit StatusError(Status status) : status_(std::move(status)) {}
  const Status& status() const { return status_; }
  const char* what() const noexcept override { return "millstream status"; }

 private:
  Status status_;
};

inline void ThrowIfError(Status status) {
  if (!status.ok()) throw StatusError(std::move(status));
}

template <typename T>
T ValueOrThrow(Result<T> result) {
  if (!result.ok()) throw StatusError(std::move(result).status());
  return std::move(result).value();
}

// The exception that a StatusError of this status raises, to be raised by others or not at all.
pybind11::object ExceptionOf(const Status& status);

// Makes a StatusError raise the class of its code.
void RegisterErrors();

}  // namespace millstream::pybind
