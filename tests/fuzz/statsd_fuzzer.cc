#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/column_batch.h"
#include "millstream/wire/statsd.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream::wire;  // NOLINT(google-build-using-namespace)
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  StatsdAggregator aggregator({.series_max = 8, .bytes_max = 8192, .members_max = 8, .idle_ms = 10});
  // Twice, so that what was seen before and what was forgotten are both met.
  for (millstream::TimestampMs now : {1, 5, 30, 31}) {
    const auto received = aggregator.Add(text, now);
    MS_CHECK(received.errors.size() <= received.refused);
    MS_CHECK(aggregator.series() <= 8);
    const DecodedWrite write = aggregator.Flush(now + 1);
    CheckDecoded(write);
    for (const DecodedSeries& series : write.series) {
      MS_CHECK(DecodeLabels(write.encoding, series.raw_labels).ok());
    }
    for (const auto& histogram : write.histograms) MS_CHECK(histogram.Validate().ok());
    MS_CHECK(DecodeColumnBatch(EncodeColumnBatch(write)).ok());
  }
  return 0;
}
