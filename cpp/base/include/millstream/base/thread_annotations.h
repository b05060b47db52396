// Names for Clang's thread-safety attributes; empty on other compilers.
//
// Source      Clang's "Thread Safety Analysis" documentation.
#pragma once

#if defined(__clang__)
#define MS_THREAD_ATTRIBUTE_(x) __attribute__((x))
#else
#define MS_THREAD_ATTRIBUTE_(x)
#endif

// Headers of gRPC bring the same names with the same meaning for Abseil's types.
#undef GUARDED_BY
#undef PT_GUARDED_BY
#undef NO_THREAD_SAFETY_ANALYSIS

#define CAPABILITY(name) MS_THREAD_ATTRIBUTE_(capability(name))
#define SCOPED_CAPABILITY MS_THREAD_ATTRIBUTE_(scoped_lockable)
#define GUARDED_BY(mutex) MS_THREAD_ATTRIBUTE_(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) MS_THREAD_ATTRIBUTE_(pt_guarded_by(mutex))
#define REQUIRES(...) MS_THREAD_ATTRIBUTE_(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) MS_THREAD_ATTRIBUTE_(requires_shared_capability(__VA_ARGS__))
#define EXCLUDES(...) MS_THREAD_ATTRIBUTE_(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) MS_THREAD_ATTRIBUTE_(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) MS_THREAD_ATTRIBUTE_(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) MS_THREAD_ATTRIBUTE_(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) MS_THREAD_ATTRIBUTE_(release_shared_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) MS_THREAD_ATTRIBUTE_(release_generic_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS MS_THREAD_ATTRIBUTE_(no_thread_safety_analysis)
