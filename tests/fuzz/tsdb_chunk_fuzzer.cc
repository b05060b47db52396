// Chunks from any bytes: no crash, no runaway memory; what decodes, decodes the same from a chunk sealed anew.
#include <cstdint>
#include <string>

#include "chunk.h"
#include "millstream/base/check.h"

using millstream::tsdb::Chunk;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto chunk = Chunk::Parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!chunk.ok()) return 0;
  const millstream::storage::TimeRange all{INT64_MIN, INT64_MAX};
  millstream::storage::SampleColumns out;
  if (!(*chunk)->Decode(all, &out).ok()) return 0;
  MS_CHECK(out.size() == (*chunk)->count());
  const bool floats = (*chunk)->kind() == millstream::tsdb::SampleKind::kFloat;
  const auto again =
      floats ? Chunk::SealFloats({out.timestamps, out.start_timestamps, out.values, {}})
             : Chunk::SealHistograms({out.histogram_timestamps, out.histogram_start_timestamps, {}, out.histograms},
                                     (*chunk)->hints());
  millstream::storage::SampleColumns second;
  MS_CHECK(again->Decode(all, &second).ok());
  MS_CHECK(out.timestamps == second.timestamps && out.histogram_timestamps == second.histogram_timestamps);
  for (size_t i = 0; i < out.histograms.size(); ++i) MS_CHECK(out.histograms[i]->IdenticalTo(*second.histograms[i]));
  return 0;
}
