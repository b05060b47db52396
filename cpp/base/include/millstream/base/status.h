// Status: the outcome of an operation that can fail, as a code and a sentence for a person.
//
// Codes equal gRPC's numbers, so they cross every boundary of the system unchanged.
// Cost        OK is a null pointer: no allocation, one compare. An error allocates once.
// Threads     Immutable after construction.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace millstream {

enum class StatusCode : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// The code's name as gRPC writes it: "INVALID_ARGUMENT".
std::string_view StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  // `code` must not be kOk.
  Status(StatusCode code, std::string message);

  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  static Status Ok() { return {}; }

  bool ok() const { return rep_ == nullptr; }
  StatusCode code() const { return rep_ ? rep_->code : StatusCode::kOk; }
  std::string_view message() const { return rep_ ? std::string_view(rep_->message) : std::string_view(); }

  // "DATA_LOSS: segment 3 …", or "OK".
  std::string ToString() const;

  // The same code with `context` and ": " put before the message; OK stays OK.
  Status WithContext(std::string_view context) const;

  friend bool operator==(const Status& a, const Status& b) {
    return a.code() == b.code() && a.message() == b.message();
  }

 private:
  struct Rep {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

// Each makes a Status of its code from a fmt format string: InvalidArgument("step {} is not positive", step).
#define MS_STATUS_MAKER(name, code)                                                    \
  template <typename... Args>                                                          \
  Status name(fmt::format_string<Args...> format, Args&&... args) {                    \
    return Status(StatusCode::code, fmt::format(format, std::forward<Args>(args)...)); \
  }
MS_STATUS_MAKER(Cancelled, kCancelled)
MS_STATUS_MAKER(InvalidArgument, kInvalidArgument)
MS_STATUS_MAKER(DeadlineExceeded, kDeadlineExceeded)
MS_STATUS_MAKER(NotFound, kNotFound)
MS_STATUS_MAKER(AlreadyExists, kAlreadyExists)
MS_STATUS_MAKER(PermissionDenied, kPermissionDenied)
MS_STATUS_MAKER(ResourceExhausted, kResourceExhausted)
MS_STATUS_MAKER(FailedPrecondition, kFailedPrecondition)
MS_STATUS_MAKER(Aborted, kAborted)
MS_STATUS_MAKER(OutOfRange, kOutOfRange)
MS_STATUS_MAKER(Unimplemented, kUnimplemented)
MS_STATUS_MAKER(Internal, kInternal)
MS_STATUS_MAKER(Unavailable, kUnavailable)
MS_STATUS_MAKER(DataLoss, kDataLoss)
#undef MS_STATUS_MAKER

}  // namespace millstream

// Returns from the enclosing function when `expression` yields an error.
#define MS_RETURN_IF_ERROR(expression)                                                       \
  do {                                                                                       \
    if (::millstream::Status ms_status_ = (expression); !ms_status_.ok()) return ms_status_; \
  } while (false)
