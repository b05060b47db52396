// What must hold of every decoded request, whatever bytes it came from.
#pragma once

#include "millstream/base/check.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {

inline void CheckDecoded(const DecodedWrite& decoded) {
  MS_CHECK(decoded.timestamps.size() == decoded.values.size());
  MS_CHECK(decoded.histogram_timestamps.size() == decoded.histograms.size());
  MS_CHECK(decoded.errors.size() <= kItemErrorsMax && decoded.errors.size() <= decoded.rejected);
  uint32_t floats = 0;
  uint32_t histograms = 0;
  uint32_t exemplars = 0;
  MS_CHECK(decoded.start_timestamps.size() <= decoded.timestamps.size());
  MS_CHECK(decoded.histogram_start_timestamps.size() <= decoded.histograms.size());
  for (const DecodedSeries& series : decoded.series) {
    MS_CHECK(series.floats_begin == floats && series.histograms_begin == histograms);
    floats = series.floats_end;
    histograms = series.histograms_end;
    // Decoders of formats without exemplars leave the range empty.
    MS_CHECK(series.exemplars_begin <= series.exemplars_end && series.exemplars_end <= decoded.exemplars.size());
    exemplars += series.exemplars_end - series.exemplars_begin;
    const Result<model::Labels> labels = DecodeLabels(decoded.encoding, series.raw_labels);
    if (labels.ok()) {
      MS_CHECK(labels->Has(model::kMetricName));
      MS_CHECK(model::Labels::FromEncoded(std::string(labels->encoded())).ok());
    }
  }
  MS_CHECK(floats == decoded.timestamps.size() && histograms == decoded.histograms.size());
  MS_CHECK(exemplars == decoded.exemplars.size());
  for (const model::Histogram& histogram : decoded.histograms) (void)histogram.Validate().ok();
}

}  // namespace millstream::wire
