// Pages of a head snapshot from any bytes; what decodes goes into a series and is read from it.
#include <cstdint>
#include <string_view>
#include <utility>

#include "snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto page = millstream::tsdb::DecodeSnapshotPage(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!page.ok()) return 0;
  for (auto& series : page->series) {
    millstream::tsdb::SeriesData restored;
    if (!restored.Restore(std::move(series.state)).ok()) continue;
    millstream::tsdb::SampleSources sources;
    restored.Collect({INT64_MIN, INT64_MAX}, &sources);
    millstream::storage::SampleColumns out;
    (void)millstream::tsdb::MergeSamples({INT64_MIN, INT64_MAX}, sources, &out);
  }
  return 0;
}
