// MS_CHECK: aborts the process, in every build, when an invariant of the program is broken.
//
// A failed check is a bug in this program, never the answer to bad input: corrupt bytes and bad requests are Status.
// Cost        One predicted branch.
#pragma once

namespace millstream {

// Prints the condition with its place to standard error and aborts.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace millstream

#define MS_CHECK(condition)                                    \
  (__builtin_expect(static_cast<bool>(condition), 1) ? (void)0 \
                                                     : ::millstream::CheckFailed(#condition, __FILE__, __LINE__))
