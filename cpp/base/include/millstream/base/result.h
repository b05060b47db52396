// Result<T>: a value of T, or the Status that says why there is none.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/base/status.h"

namespace millstream {

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that `return value;` and `return InvalidArgument(…);` both read naturally.
  template <typename U = T>
    requires(std::is_constructible_v<T, U &&> && !std::is_same_v<std::remove_cvref_t<U>, Status> &&
             !std::is_same_v<std::remove_cvref_t<U>, Result>)
  Result(U&& value) : value_(std::forward<U>(value)) {}  // NOLINT(google-explicit-constructor)
  // `status` must be an error.
  Result(Status status) : status_(std::move(status)) {
    MS_CHECK(!status_.ok());
  }  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status&& status() && { return std::move(status_); }

  // The value; the result must be ok().
  T& value() & {
    MS_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    MS_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    MS_CHECK(ok());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace millstream

#define MS_CONCAT_INNER_(a, b) a##b
#define MS_CONCAT_(a, b) MS_CONCAT_INNER_(a, b)

// MS_ASSIGN_OR_RETURN(auto x, F()): declares or assigns the value, or returns the error from the enclosing function.
#define MS_ASSIGN_OR_RETURN(declaration, expression) \
  MS_ASSIGN_OR_RETURN_IMPL_(MS_CONCAT_(ms_result_, __LINE__), declaration, expression)
#define MS_ASSIGN_OR_RETURN_IMPL_(result, declaration, expression) \
  auto result = (expression);                                      \
  if (!result.ok()) return std::move(result).status();             \
  declaration = std::move(result).value()
