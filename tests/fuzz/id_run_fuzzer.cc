// Runs of clients' ids. Bytes of a file: what is read whole is encoded to the same bytes again. Entries of any hashes:
// each is found, and nothing else.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "id_run.h"
#include "millstream/base/check.h"

namespace {

using millstream::events::IdEntry;
using millstream::events::IdRunFile;

class Bytes final : public millstream::env::ReadableFile {
 public:
  explicit Bytes(std::string_view bytes) : bytes_(bytes) {}
  millstream::Result<size_t> Read(uint64_t position, std::span<char> out) const override {
    if (position >= bytes_.size()) return size_t{0};
    const size_t count = std::min<size_t>(out.size(), bytes_.size() - position);
    std::memcpy(out.data(), bytes_.data() + position, count);
    return count;
  }
  millstream::Result<uint64_t> Size() const override { return uint64_t{bytes_.size()}; }

 private:
  const std::string_view bytes_;
};

void ReadFileOf(std::string_view bytes) {
  const auto run = IdRunFile::Open(std::make_unique<Bytes>(bytes));
  if (!run.ok()) return;
  (void)run->Find(bytes.size()).ok();
  const auto entries = run->ReadAll();
  if (entries.ok()) MS_CHECK(millstream::events::EncodeIdRun(run->first(), run->end(), *entries) == bytes);
}

void FindEntries(std::string_view bytes) {
  std::vector<IdEntry> entries;
  // Few bytes make many entries: hashes that are close together, far apart, or the same.
  uint64_t hash = 0;
  for (const char byte : bytes.substr(0, 2000)) {
    const auto value = static_cast<uint8_t>(byte);
    hash += uint64_t{value & 7U} << (value & 0xF8U) / 4;
    entries.push_back({hash, entries.size()});
  }
  std::ranges::sort(entries);
  const std::string encoded = millstream::events::EncodeIdRun(0, entries.size(), entries);
  const auto run = IdRunFile::Open(std::make_unique<Bytes>(encoded));
  MS_CHECK(run.ok() && *run->ReadAll() == entries);
  for (size_t i = 0; i < entries.size(); i += 61) {
    for (const uint64_t wanted : {entries[i].hash, entries[i].hash + 1}) {
      const auto [begin, end] = std::ranges::equal_range(entries, wanted, {}, &IdEntry::hash);
      const auto found = run->Find(wanted);
      MS_CHECK(found.ok() && std::ranges::equal(*found, std::span(begin, end), {}, {}, &IdEntry::offset));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    ReadFileOf(bytes);
  } else {
    FindEntries(bytes);
  }
  return 0;
}
