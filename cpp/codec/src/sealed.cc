#include "millstream/codec/sealed.h"

#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"

namespace millstream::codec {
namespace {

constexpr size_t kVersionBytes = 4;
constexpr size_t kCrcBytes = 4;

}  // namespace

std::string Seal(const SealKind& kind, std::string_view content) {
  std::string out;
  out.reserve(kind.magic.size() + kVersionBytes + content.size() + kCrcBytes);
  ByteWriter writer(&out);
  writer.Raw(kind.magic);
  writer.U32(kind.version);
  writer.Raw(content);
  writer.U32(Crc32c(out));
  return out;
}

Result<std::string_view> Unseal(const SealKind& kind, std::string_view sealed) {
  const size_t header_bytes = kind.magic.size() + kVersionBytes;
  if (sealed.size() < header_bytes + kCrcBytes) return DataLoss("{} has only {} bytes", kind.name, sealed.size());
  const std::string_view checked = sealed.substr(0, sealed.size() - kCrcBytes);
  ByteReader behind(sealed.substr(checked.size()));
  uint32_t crc = 0;
  if (!behind.U32(&crc) || crc != Crc32c(checked)) return DataLoss("the checksum of {} is wrong", kind.name);
  ByteReader reader(checked);
  std::string_view magic;
  uint32_t version = 0;
  if (!reader.Raw(kind.magic.size(), &magic) || magic != kind.magic || !reader.U32(&version)) {
    return DataLoss("what should be {} is something else", kind.name);
  }
  if (version != kind.version) {
    return DataLoss("{} is of version {}; this is version {}", kind.name, version, kind.version);
  }
  return checked.substr(header_bytes);
}

}  // namespace millstream::codec
