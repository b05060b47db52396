// Record: what one Write puts into the log: new series, accepted samples, changed metadata, exemplars.
//
// docs/formats/head.md draws the layout. Decoding checks every length before it allocates.
// Threads     Pure functions.
// Errors      kDataLoss for bytes that EncodeRecord does not write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/codec/byte_io.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/labels.h"
#include "millstream/model/metadata.h"
#include "series.h"

namespace millstream::tsdb {

struct RecordSeries {
  SeriesRef ref;
  model::Labels labels;
};

struct RecordSample {
  uint32_t series = 0;  // index into Record::refs
  TimedSample sample;
};

struct Record {
  TenantId tenant{0};
  std::vector<RecordSeries> new_series;
  std::vector<SeriesRef> refs;  // of the series that samples name, new ones too
  std::vector<RecordSample> samples;
  std::vector<model::MetricMetadata> metadata;
  std::vector<model::SeriesExemplars> exemplars;
};

// One exemplar as records and snapshots write it. Get is false when the bytes are malformed.
void PutExemplar(const model::Exemplar& exemplar, codec::ByteWriter* out);
bool GetExemplar(codec::ByteReader* in, model::Exemplar* out);

std::string EncodeRecord(const Record& record);
Result<Record> DecodeRecord(std::string_view bytes);

}  // namespace millstream::tsdb
