// Records of the log from any bytes: what decodes is encoded to what decodes the same, and can be applied twice.
#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/tsdb/partition.h"
#include "record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto record = millstream::tsdb::DecodeRecord(bytes);
  if (!record.ok()) return 0;
  const std::string encoded = millstream::tsdb::EncodeRecord(*record);
  const auto again = millstream::tsdb::DecodeRecord(encoded);
  MS_CHECK(again.ok() && again->samples.size() == record->samples.size());
  for (size_t i = 0; i < record->samples.size(); ++i) {
    MS_CHECK(again->samples[i].sample.timestamp == record->samples[i].sample.timestamp);
    MS_CHECK(again->samples[i].sample.value.SameAs(record->samples[i].sample.value));
  }
  const auto partition = millstream::tsdb::Partition::MakeInMemory({});
  if (!partition->ApplyRecord(bytes, millstream::Offset(0)).ok()) return 0;
  MS_CHECK(partition->ApplyRecord(encoded, millstream::Offset(1)).ok());
  return 0;
}
