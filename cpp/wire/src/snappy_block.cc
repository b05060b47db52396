#include "snappy_block.h"

#include <snappy.h>

namespace millstream::wire {
namespace {

// The densest snappy element is a 3-byte copy of 64 bytes.
constexpr size_t kSnappyRatioMax = 22;

}  // namespace

Result<std::string> UncompressSnappy(std::string_view compressed, size_t bytes_max) {
  size_t length = 0;
  if (!snappy::GetUncompressedLength(compressed.data(), compressed.size(), &length)) {
    return InvalidArgument("the body is not a snappy block: its length cannot be read");
  }
  if (length > bytes_max) {
    return OutOfRange("the body declares {} bytes uncompressed; the limit is {}", length, bytes_max);
  }
  if (length > (compressed.size() + 1) * kSnappyRatioMax) {
    return InvalidArgument("the body declares {} bytes, more than {} bytes of snappy can hold", length,
                           compressed.size());
  }
  std::string message(length, '\0');
  if (!snappy::RawUncompress(compressed.data(), compressed.size(), message.data())) {
    return InvalidArgument("the body is not a valid snappy block: it is truncated or corrupt");
  }
  return message;
}

std::string CompressSnappy(std::string_view bytes) {
  std::string compressed;
  snappy::Compress(bytes.data(), bytes.size(), &compressed);
  return compressed;
}

}  // namespace millstream::wire
