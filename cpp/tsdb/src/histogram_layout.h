// HistogramLayout: what histograms of one series mostly have in common, as bytes. docs/formats/chunk.md draws it.
//
// Errors      Get returns false for bytes that Put does not write.
#pragma once

#include "millstream/codec/byte_io.h"
#include "millstream/model/histogram.h"

namespace millstream::tsdb {

// Schema, zero threshold, spans and custom values.
void PutHistogramLayout(const model::Histogram& histogram, codec::ByteWriter* out);
// Sizes the bucket vectors to what the spans say, with zeros; false when that is more than `buckets_max`.
bool GetHistogramLayout(codec::ByteReader* in, size_t buckets_max, model::Histogram* histogram);

}  // namespace millstream::tsdb
