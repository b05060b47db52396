// Remote read: what a prometheus.ReadRequest asks for, and the two forms of its answer.
//
// Errors      DecodeReadRequest: kInvalidArgument for a body that is malformed, a matcher whose regular expression does
//             not compile, or accepted response types of which none is offered; kOutOfRange beyond the limits below.
// Source      prometheus.io, "Remote Read API"; Prometheus's prompb/remote.proto and storage/remote/chunked.go.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"
#include "millstream/storage/queryable.h"

namespace millstream::wire {

inline constexpr size_t kReadRequestBytesMax = 4 << 20;
inline constexpr size_t kReadQueriesMax = 100;
inline constexpr size_t kReadMatchersMax = 100;  // of one query
// A frame of chunks ends once it is larger.
inline constexpr size_t kReadFrameBytesTarget = 1 << 20;

struct ReadQuery {
  storage::TimeRange range{0, 0};
  std::vector<model::Matcher> matchers;
};

struct ReadRequest {
  std::vector<ReadQuery> queries;
  // What the client takes. Without a word about it, samples.
  bool takes_samples = false;
  bool takes_chunks = false;
};

Result<ReadRequest> DecodeReadRequest(std::string_view compressed);

// A prometheus.ReadResponse with all samples, native histograms included.
class SamplesAnswer {
 public:
  // Queries in the order of the request, series in the order of their labels.
  void BeginQuery();
  void AddSeries(const model::Labels& labels, const storage::SampleColumns& samples);
  size_t bytes() const { return message_.size() + result_.size(); }
  // Compressed by snappy.
  std::string Finish();

 private:
  void EndQuery();

  std::string message_;
  std::string result_;  // of the query that runs
  std::string series_;
  std::string part_;
  bool in_query_ = false;
};

// Frames of prometheus.ChunkedReadResponse, each behind its length and CRC32C: floats in chunks of the encoding XOR,
// native histograms in those of HISTOGRAM where all their counts are whole, else of FLOAT_HISTOGRAM.
class ChunksAnswer {
 public:
  void BeginQuery();
  void AddSeries(const model::Labels& labels, const storage::SampleColumns& samples);
  size_t bytes() const { return frames_.size(); }
  std::string Finish() { return std::move(frames_); }

 private:
  void AddFloats(const model::Labels& labels, std::span<const TimestampMs> timestamps, std::span<const double> values);
  void AddHistograms(const model::Labels& labels, std::span<const TimestampMs> timestamps,
                     std::span<const std::shared_ptr<const model::Histogram>> histograms);
  void AddChunk(const model::Labels& labels, std::span<const TimestampMs> timestamps, uint64_t encoding,
                std::string_view bytes);
  void EndFrame(const model::Labels& labels);

  std::string frames_;
  std::string chunks_;  // of the frame to come
  int64_t query_ = -1;
};

}  // namespace millstream::wire
