#include "millstream/wire/remote_write_encoder.h"

#include <snappy.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/span_writer.h"

namespace millstream::wire {
namespace {

// Field numbers and wire types of prometheus.WriteRequest and below.
constexpr uint8_t kSeriesTag = 1 << 3 | 2;
constexpr uint8_t kLabelTag = 1 << 3 | 2;
constexpr uint8_t kNameTag = 1 << 3 | 2;
constexpr uint8_t kLabelValueTag = 2 << 3 | 2;
constexpr uint8_t kSampleTag = 2 << 3 | 2;
constexpr uint8_t kValueTag = 1 << 3 | 1;
constexpr uint8_t kTimestampTag = 2 << 3 | 0;

constexpr size_t kVarintBytesMax = 10;
// Tag and length of a sample, then tag and bits of its value, then tag and varint of its time.
constexpr size_t kSampleBytesMax = 2 + 9 + 1 + kVarintBytesMax;

void AppendBytes(uint8_t tag, std::string_view bytes, std::string* out) {
  codec::ByteWriter writer(out);
  writer.U8(tag);
  writer.Bytes(bytes);
}

void AppendSample(TimestampMs timestamp, double value, std::string* out) {
  const auto raw_time = static_cast<uint64_t>(timestamp);
  codec::ByteWriter writer(out);
  writer.U8(kSampleTag);
  writer.Varint(9 + 1 + codec::VarintBytes(raw_time));
  writer.U8(kValueTag);
  writer.Double(value);
  writer.U8(kTimestampTag);
  writer.Varint(raw_time);
}

std::string EncodeLabels(std::vector<model::Label> labels) {
  std::sort(labels.begin(), labels.end(), [](const model::Label& a, const model::Label& b) { return a.name < b.name; });
  std::string out;
  std::string one;
  for (const model::Label& label : labels) {
    one.clear();
    AppendBytes(kNameTag, label.name, &one);
    AppendBytes(kLabelValueTag, label.value, &one);
    AppendBytes(kLabelTag, one, &out);
  }
  return out;
}

// Rows ordered by series; within one, as they came.
struct RowsBySeries {
  std::vector<uint64_t> begins;  // one more than there are series
  std::vector<uint64_t> rows;
};

Result<RowsBySeries> Group(std::span<const uint64_t> which, size_t series) {
  RowsBySeries out;
  out.begins.assign(series + 1, 0);
  for (size_t row = 0; row < which.size(); ++row) {
    if (which[row] >= series)
      return InvalidArgument("row {} is of series {}, but there are {}", row, which[row], series);
    ++out.begins[which[row] + 1];
  }
  for (size_t i = 0; i < series; ++i) out.begins[i + 1] += out.begins[i];
  std::vector<uint64_t> next(out.begins.begin(), out.begins.end() - 1);
  out.rows.resize(which.size());
  for (size_t row = 0; row < which.size(); ++row) out.rows[next[which[row]]++] = row;
  return out;
}

class Encoder {
 public:
  Encoder(const RemoteWriteColumns& columns, size_t message_bytes_max)
      : columns_(columns), message_bytes_max_(message_bytes_max) {}

  Status Add(uint64_t series, std::span<const uint64_t> rows) {
    if (rows.empty()) return Status::Ok();
    const std::string labels = EncodeLabels(columns_.series[series]);
    // Tag and length of the series itself come on top.
    const size_t fixed = labels.size() + 1 + kVarintBytesMax;
    if (fixed + kSampleBytesMax > message_bytes_max_) {
      return ResourceExhausted("the labels of series {} take {} bytes, and a request holds {}", series, labels.size(),
                               message_bytes_max_);
    }
    while (!rows.empty()) {
      if (message_.size() + fixed + kSampleBytesMax > message_bytes_max_) Finish();
      one_ = labels;
      size_t taken = 0;
      while (taken < rows.size() &&
             message_.size() + 1 + kVarintBytesMax + one_.size() + kSampleBytesMax <= message_bytes_max_) {
        AppendSample(columns_.timestamps[rows[taken]], columns_.values[rows[taken]], &one_);
        ++taken;
      }
      AppendBytes(kSeriesTag, one_, &message_);
      body_.series.push_back(series);
      body_.samples += taken;
      rows = rows.subspan(taken);
    }
    return Status::Ok();
  }

  std::vector<RemoteWriteBody> Take() {
    Finish();
    return std::move(bodies_);
  }

 private:
  void Finish() {
    if (message_.empty()) return;
    snappy::Compress(message_.data(), message_.size(), &body_.compressed);
    bodies_.push_back(std::exchange(body_, {}));
    message_.clear();
  }

  const RemoteWriteColumns& columns_;
  const size_t message_bytes_max_;
  std::string message_;
  std::string one_;
  RemoteWriteBody body_;
  std::vector<RemoteWriteBody> bodies_;
};

}  // namespace

Result<std::vector<RemoteWriteBody>> EncodeRemoteWrite(const RemoteWriteColumns& columns, size_t message_bytes_max) {
  if (columns.which.size() != columns.timestamps.size() || columns.which.size() != columns.values.size()) {
    return InvalidArgument("the columns have different lengths: {} series, {} timestamps, {} values",
                           columns.which.size(), columns.timestamps.size(), columns.values.size());
  }
  MS_ASSIGN_OR_RETURN(const RowsBySeries grouped, Group(columns.which, columns.series.size()));
  Encoder encoder(columns, message_bytes_max);
  const std::span<const uint64_t> rows(grouped.rows);
  for (size_t i = 0; i < columns.series.size(); ++i) {
    MS_RETURN_IF_ERROR(encoder.Add(i, rows.subspan(grouped.begins[i], grouped.begins[i + 1] - grouped.begins[i])));
  }
  return encoder.Take();
}

}  // namespace millstream::wire
