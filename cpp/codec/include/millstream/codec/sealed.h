// Sealed bytes: what a small file holds that is written as a whole. A magic, a version (u32), the content, and the
// CRC32C of all before it.
//
// Threads     Pure functions.
// Errors      kDataLoss for bytes that are cut off, changed, of another kind or of another version; it names the kind.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/result.h"

namespace millstream::codec {

struct SealKind {
  std::string_view magic;
  uint32_t version;
  std::string_view name;  // for messages
};

std::string Seal(const SealKind& kind, std::string_view content);

// The content, within `sealed`.
Result<std::string_view> Unseal(const SealKind& kind, std::string_view sealed);

}  // namespace millstream::codec
