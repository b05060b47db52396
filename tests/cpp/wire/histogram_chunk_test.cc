// Chunks of native histograms as remote read sends them, read back by a decoder of this test.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/codec/crc32c.h"
#include "millstream/model/histogram.h"
#include "millstream/model/value.h"
#include "millstream/wire/remote_read.h"

namespace millstream::wire {
namespace {

using model::CounterResetHint;
using model::Histogram;

enum class Encoding : uint64_t { kXor = 1, kHistogram = 2, kFloatHistogram = 3 };
enum class Header : uint8_t { kUnknown = 0, kNotReset = 1, kReset = 2, kGauge = 3 };

struct Chunk {
  TimestampMs first = 0;
  TimestampMs last = 0;
  Encoding encoding{};
  std::string bytes;
};

// A varint of protobuf; nothing is checked, the tests are about what we write.
uint64_t TakeVarint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes->front());
    bytes->remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

// Calls on_field(number, varint, bytes) for each.
template <typename OnField>
void ForEachField(std::string_view message, const OnField& on_field) {
  while (!message.empty()) {
    const uint64_t tag = TakeVarint(&message);
    const uint64_t value = TakeVarint(&message);
    if ((tag & 7) == 0) {
      on_field(tag >> 3, value, std::string_view());
    } else {
      on_field(tag >> 3, uint64_t{0}, message.substr(0, value));
      message.remove_prefix(value);
    }
  }
}

struct Frames {
  std::vector<Chunk> chunks;
  size_t count = 0;
  size_t bytes_max = 0;  // of a frame
};

Frames Unframe(std::string_view stream) {
  Frames out;
  while (!stream.empty()) {
    const uint64_t size = TakeVarint(&stream);
    uint32_t checksum = 0;
    for (int i = 0; i < 4; ++i) checksum = checksum << 8 | static_cast<unsigned char>(stream[static_cast<size_t>(i)]);
    stream.remove_prefix(4);
    const std::string_view frame = stream.substr(0, size);
    stream.remove_prefix(size);
    EXPECT_EQ(codec::Crc32c(frame), checksum);
    ++out.count;
    out.bytes_max = std::max(out.bytes_max, frame.size());
    ForEachField(frame, [&](uint64_t field, uint64_t, std::string_view series) {
      if (field != 1) return;
      ForEachField(series, [&](uint64_t part, uint64_t, std::string_view message) {
        if (part != 2) return;
        Chunk chunk;
        ForEachField(message, [&](uint64_t number, uint64_t value, std::string_view bytes) {
          if (number == 1) chunk.first = static_cast<TimestampMs>(value);
          if (number == 2) chunk.last = static_cast<TimestampMs>(value);
          if (number == 3) chunk.encoding = static_cast<Encoding>(value);
          if (number == 4) chunk.bytes = bytes;
        });
        out.chunks.push_back(std::move(chunk));
      });
    });
  }
  return out;
}

class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t Read(int width) {
    uint64_t value = 0;
    for (int i = 0; i < width; ++i) {
      const size_t byte = next_ / 8;
      EXPECT_LT(byte, bytes_.size());
      if (byte >= bytes_.size()) return 0;
      value = value << 1 | (static_cast<unsigned char>(bytes_[byte]) >> (7 - next_ % 8) & 1);
      ++next_;
    }
    return value;
  }
  double ReadDouble() { return std::bit_cast<double>(Read(64)); }
  uint64_t ReadUnsigned() { return Read(ReadWidth()); }
  int64_t ReadSigned() {
    const int width = ReadWidth();
    uint64_t value = Read(width);
    if (width > 0 && width < 64 && value > uint64_t{1} << (width - 1)) value -= uint64_t{1} << width;
    return static_cast<int64_t>(value);
  }
  // Less than a byte is left, and it is zero.
  bool AtEnd() {
    if (bytes_.size() * 8 - next_ >= 8) return false;
    return Read(static_cast<int>(bytes_.size() * 8 - next_)) == 0;
  }

 private:
  int ReadWidth() {
    constexpr int kWidths[] = {0, 3, 6, 9, 12, 18, 25, 56, 64};
    size_t ones = 0;
    while (ones < 8 && Read(1) == 1) ++ones;
    return kWidths[ones];
  }

  std::string_view bytes_;
  size_t next_ = 0;
};

struct XorReader {
  double value = 0;
  int leading = 0;
  int trailing = 0;

  double Read(BitReader* in) {
    if (in->Read(1) == 0) return value;
    if (in->Read(1) == 1) {
      leading = static_cast<int>(in->Read(5));
      const auto significant = static_cast<int>(in->Read(6));
      trailing = 64 - leading - (significant == 0 ? 64 : significant);
    }
    const uint64_t change = in->Read(64 - leading - trailing) << trailing;
    return value = std::bit_cast<double>(std::bit_cast<uint64_t>(value) ^ change);
  }
};

struct DeltaReader {
  uint64_t value = 0;
  uint64_t delta = 0;

  uint64_t Read(BitReader* in) {
    delta += static_cast<uint64_t>(in->ReadSigned());
    return value += delta;
  }
};

struct Sample {
  TimestampMs timestamp = 0;
  Histogram histogram;
};

struct Decoded {
  Header header{};
  std::vector<Sample> samples;
};

std::vector<model::Span> ReadSpans(BitReader* in) {
  std::vector<model::Span> spans(in->ReadUnsigned());
  for (model::Span& span : spans) {
    span.length = static_cast<uint32_t>(in->ReadUnsigned());
    span.offset = static_cast<int32_t>(in->ReadSigned());
  }
  return spans;
}

Histogram ReadLayout(BitReader* in) {
  Histogram out;
  const uint64_t threshold = in->Read(8);
  if (threshold == 255) {
    out.zero_threshold = in->ReadDouble();
  } else if (threshold != 0) {
    out.zero_threshold = std::ldexp(0.5, static_cast<int>(threshold) - 243);
  }
  out.schema = static_cast<int32_t>(in->ReadSigned());
  out.positive_spans = ReadSpans(in);
  out.negative_spans = ReadSpans(in);
  const auto covered = [](const std::vector<model::Span>& spans) {
    size_t count = 0;
    for (const model::Span& span : spans) count += span.length;
    return count;
  };
  out.positive_buckets.resize(covered(out.positive_spans));
  out.negative_buckets.resize(covered(out.negative_spans));
  if (!out.uses_custom_buckets()) return out;
  out.custom_values.resize(in->ReadUnsigned());
  for (double& bound : out.custom_values) {
    const uint64_t thousandths = in->ReadUnsigned();
    bound = thousandths == 0 ? in->ReadDouble() : static_cast<double>(thousandths - 1) / 1000;
  }
  return out;
}

Decoded Decode(const Chunk& chunk) {
  Decoded out;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(chunk.bytes[i]); };
  const size_t count = static_cast<size_t>(byte(0)) << 8 | byte(1);
  out.header = static_cast<Header>(byte(2) >> 6);
  EXPECT_EQ(byte(2) & 0x3f, 0);
  BitReader in(std::string_view(chunk.bytes).substr(3));
  Histogram histogram = ReadLayout(&in);
  std::vector<double*> cells = {&histogram.count, &histogram.zero_count};
  for (auto* buckets : {&histogram.positive_buckets, &histogram.negative_buckets}) {
    for (double& bucket : *buckets) cells.push_back(&bucket);
  }
  const bool is_whole = chunk.encoding == Encoding::kHistogram;
  DeltaReader time{.value = static_cast<uint64_t>(in.ReadSigned())};
  XorReader sum;
  std::vector<DeltaReader> whole(cells.size());
  std::vector<XorReader> any(cells.size());
  for (size_t i = 0; i < count; ++i) {
    if (i > 0) time.Read(&in);
    const auto read_sum = [&] { histogram.sum = sum.value = i == 0 ? in.ReadDouble() : sum.Read(&in); };
    if (is_whole) {
      for (size_t cell = 0; cell < cells.size(); ++cell) {
        if (cell == 2) read_sum();
        if (i > 0) {
          whole[cell].Read(&in);
        } else {
          whole[cell].value = cell < 2 ? in.ReadUnsigned() : static_cast<uint64_t>(in.ReadSigned());
        }
      }
      if (cells.size() == 2) read_sum();
      *cells[0] = static_cast<double>(whole[0].value);
      *cells[1] = static_cast<double>(whole[1].value);
      for (size_t cell = 2; cell < cells.size(); ++cell) {
        const bool begins = cell == 2 || cell == 2 + histogram.positive_buckets.size();
        *cells[cell] = static_cast<double>(static_cast<int64_t>(whole[cell].value)) + (begins ? 0 : *cells[cell - 1]);
      }
    } else {
      for (size_t cell = 0; cell < cells.size(); ++cell) {
        if (cell == 2) read_sum();
        *cells[cell] = any[cell].value = i == 0 ? in.ReadDouble() : any[cell].Read(&in);
      }
      if (cells.size() == 2) read_sum();
    }
    // As Prometheus tells them.
    histogram.counter_reset_hint = out.header == Header::kGauge ? CounterResetHint::kGauge
                                   : i > 0                      ? CounterResetHint::kNotReset
                                                                : CounterResetHint::kUnknown;
    out.samples.push_back({static_cast<TimestampMs>(time.value), histogram});
  }
  EXPECT_TRUE(in.AtEnd());
  EXPECT_EQ(out.samples.front().timestamp, chunk.first);
  EXPECT_EQ(out.samples.back().timestamp, chunk.last);
  return out;
}

void Add(TimestampMs timestamp, const Histogram& histogram, storage::SampleColumns* samples) {
  ASSERT_TRUE(histogram.Validate().ok()) << histogram.Validate().ToString();
  samples->histogram_timestamps.push_back(timestamp);
  samples->histograms.push_back(std::make_shared<const Histogram>(histogram));
}

Frames Encode(const storage::SampleColumns& samples) {
  ChunksAnswer answer;
  answer.BeginQuery();
  answer.AddSeries(model::Labels::Of({{"__name__", "h"}}), samples);
  return Unframe(answer.Finish());
}

std::vector<Header> HeadersOf(const Frames& frames) {
  std::vector<Header> out;
  for (const Chunk& chunk : frames.chunks) out.push_back(Decode(chunk).header);
  return out;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return out;
}

// Three buckets of `count` observations each, and one that is zero.
Histogram Simple(double count) {
  Histogram out;
  out.count = 3 * count + 1;
  out.zero_count = 1;
  out.zero_threshold = 0.001;
  out.sum = count / 3;
  out.positive_spans = {{.offset = 1, .length = 2}, {.offset = 3, .length = 1}};
  out.positive_buckets = {count, count, count};
  return out;
}

TEST(HistogramChunk, WholeCountsAreTheBytesThatPrometheusWrites) {
  storage::SampleColumns samples;
  for (int64_t i = 0; i < 4; ++i) {
    Histogram histogram;
    histogram.counter_reset_hint = i == 0 ? CounterResetHint::kReset : CounterResetHint::kUnknown;
    histogram.schema = 1;
    histogram.zero_threshold = std::ldexp(1, -128);
    histogram.zero_count = static_cast<double>(i);
    histogram.count = static_cast<double>(10 + i * i * 100'000);
    histogram.sum = 1.5 * static_cast<double>(i);
    histogram.positive_spans = {{.offset = -3, .length = 2}, {.offset = 40, .length = 1}};
    histogram.positive_buckets = {static_cast<double>(3 + i), static_cast<double>(5 + i),
                                  static_cast<double>(i + i * i * 70)};
    histogram.negative_spans = {{.offset = 0, .length = 1}};
    histogram.negative_buckets = {static_cast<double>(3 * i)};
    Add(1'732'000'000'000 + i * 15'000 + i * i * i, histogram, &samples);
  }
  const Frames frames = Encode(samples);
  ASSERT_EQ(frames.chunks.size(), 1u);
  EXPECT_EQ(frames.chunks[0].encoding, Encoding::kHistogram);
  // From chunkenc.HistogramChunk of Prometheus 3.15.
  EXPECT_EQ(
      Hex(frames.chunks[0].bytes),
      "000480748ca558f0a2317f0000c9a19f54006280000000000000001396edf07533f30d411c45fff8b88d3c37e0186a03097ffce46319"
      "f8061a80d6269c8c00");
}

TEST(HistogramChunk, GaugesWithFractionsAndCustomBoundsAreTheBytesThatPrometheusWrites) {
  storage::SampleColumns samples;
  for (int i = 0; i < 3; ++i) {
    Histogram histogram;
    histogram.counter_reset_hint = CounterResetHint::kGauge;
    histogram.schema = model::kCustomBucketsSchema;
    histogram.count = 1.5 + i;
    histogram.sum = 0.1 * i;
    histogram.positive_spans = {{.offset = 0, .length = 3}};
    histogram.positive_buckets = {0.5, 0.25 * i, 1.0 / (i + 1)};
    histogram.custom_values = {-1, 0.005, 2.5, 1e6};
    Add(1000 + i * 20, histogram, &samples);
  }
  const Frames frames = Encode(samples);
  ASSERT_EQ(frames.chunks.size(), 1u);
  EXPECT_EQ(frames.chunks[0].encoding, Encoding::kFloatHistogram);
  // From chunkenc.FloatHistogramChunk of Prometheus 3.15.
  EXPECT_EQ(Hex(frames.chunks[0].bytes),
            "0003c000ee5c66517fe00000000000016f4e2904ba120000000003c7d07ff000000000000000000000000000000000000000000000"
            "7fc000000000000000000000000000007fe000000000000194c26fffd8bdfee666666666666b115feeb06800480700000000000008"
            "03d5b6aaaaaaaaaaaaa0");
}

TEST(HistogramChunk, AResetBeginsAChunkThatSaysSo) {
  storage::SampleColumns samples;
  for (const double count : {5, 7, 9, 2, 4}) Add(1000 + std::ssize(samples.histograms), Simple(count), &samples);
  Histogram told = Simple(4);
  told.counter_reset_hint = CounterResetHint::kReset;
  Add(2000, told, &samples);
  // One bucket went down, the count up.
  Histogram one = Simple(8);
  one.positive_buckets = {3, 20, 20};
  Add(3000, one, &samples);
  EXPECT_EQ(HeadersOf(Encode(samples)),
            (std::vector{Header::kUnknown, Header::kReset, Header::kReset, Header::kReset}));
}

TEST(HistogramChunk, SayingThatNothingWasResetIsBelieved) {
  storage::SampleColumns samples;
  Add(1000, Simple(5), &samples);
  Histogram less = Simple(3);
  less.counter_reset_hint = CounterResetHint::kNotReset;
  Add(2000, less, &samples);
  const Frames frames = Encode(samples);
  ASSERT_EQ(frames.chunks.size(), 1u);
  EXPECT_EQ(Decode(frames.chunks[0]).samples[1].histogram.count, less.count);
}

TEST(HistogramChunk, AnotherLayoutBeginsAChunkWithoutAReset) {
  storage::SampleColumns samples;
  Add(1000, Simple(5), &samples);
  Histogram more = Simple(6);
  more.positive_spans[1].length = 2;
  more.positive_buckets.push_back(1);
  more.count += 1;
  Add(2000, more, &samples);
  Histogram coarser = more;
  coarser.schema = -1;
  coarser.positive_spans = {{.offset = 0, .length = 5}};
  coarser.positive_buckets = {20, 20, 20, 20, 20};
  coarser.count = 101;
  Add(3000, coarser, &samples);
  coarser.zero_threshold = 0.002;
  Add(4000, coarser, &samples);
  EXPECT_EQ(HeadersOf(Encode(samples)),
            (std::vector{Header::kUnknown, Header::kNotReset, Header::kNotReset, Header::kNotReset}));
}

TEST(HistogramChunk, GaugesAndCountersAreNotInOneChunk) {
  storage::SampleColumns samples;
  Histogram gauge = Simple(5);
  gauge.counter_reset_hint = CounterResetHint::kGauge;
  Add(1000, gauge, &samples);
  gauge.count = 4;
  gauge.positive_buckets = {1, 1, 1};
  Add(2000, gauge, &samples);
  Add(3000, Simple(7), &samples);
  const Frames frames = Encode(samples);
  EXPECT_EQ(HeadersOf(frames), (std::vector{Header::kGauge, Header::kUnknown}));
  EXPECT_EQ(Decode(frames.chunks[0]).samples.size(), 2u);
}

TEST(HistogramChunk, TheEndOfASeriesIsAChunkWithoutBuckets) {
  storage::SampleColumns samples;
  Add(1000, Simple(5), &samples);
  Histogram end = Simple(5);
  end.sum = model::StaleNan();
  Add(2000, end, &samples);
  Add(3000, end, &samples);
  Add(4000, Simple(6), &samples);
  const Frames frames = Encode(samples);
  EXPECT_EQ(HeadersOf(frames), (std::vector{Header::kUnknown, Header::kUnknown, Header::kUnknown}));
  const Decoded ends = Decode(frames.chunks[1]);
  ASSERT_EQ(ends.samples.size(), 2u);
  for (const Sample& sample : ends.samples) {
    EXPECT_TRUE(model::IsStaleNan(sample.histogram.sum));
    EXPECT_TRUE(sample.histogram.positive_buckets.empty());
  }
}

TEST(HistogramChunk, CountsThatAreNotWholeHaveTheirOwnEncoding) {
  for (const double odd : {0.5, -0.0, 0x1p54, std::numeric_limits<double>::infinity(), model::NormalNan()}) {
    storage::SampleColumns samples;
    Add(1000, Simple(5), &samples);
    Histogram histogram = Simple(5);
    histogram.zero_count = odd;
    Add(2000, histogram, &samples);
    const Frames frames = Encode(samples);
    ASSERT_EQ(frames.chunks.size(), 2u);
    EXPECT_EQ(frames.chunks[0].encoding, Encoding::kHistogram);
    EXPECT_EQ(frames.chunks[1].encoding, Encoding::kFloatHistogram);
    const double read = Decode(frames.chunks[1]).samples[0].histogram.zero_count;
    EXPECT_EQ(std::bit_cast<uint64_t>(read), std::bit_cast<uint64_t>(odd));
  }
}

TEST(HistogramChunk, FloatsAndHistogramsOfOneSeriesFollowEachOtherInTime) {
  storage::SampleColumns samples;
  samples.timestamps = {1000, 1500, 4000, 6000};
  samples.values = {1, 2, 3, 4};
  Add(2000, Simple(5), &samples);
  Add(3000, Simple(6), &samples);
  Add(5000, Simple(4), &samples);
  const Frames frames = Encode(samples);
  std::vector<Encoding> encodings;
  TimestampMs before = 0;
  for (const Chunk& chunk : frames.chunks) {
    encodings.push_back(chunk.encoding);
    EXPECT_LT(before, chunk.first);
    EXPECT_LE(chunk.first, chunk.last);
    before = chunk.last;
  }
  EXPECT_EQ(encodings,
            (std::vector{Encoding::kXor, Encoding::kHistogram, Encoding::kXor, Encoding::kHistogram, Encoding::kXor}));
  // What came before the last histogram is a float: nothing is known about it.
  EXPECT_EQ(Decode(frames.chunks[3]).header, Header::kUnknown);
}

TEST(HistogramChunk, ChunksAndFramesAreBounded) {
  storage::SampleColumns small;
  for (int i = 0; i < 500; ++i) Add(i * 1000, Simple(i), &small);
  for (const Chunk& chunk : Encode(small).chunks) {
    EXPECT_LE(Decode(chunk).samples.size(), 120u);
    EXPECT_LE(chunk.bytes.size(), 1500u);
  }
  storage::SampleColumns large;
  std::mt19937_64 random(1);
  for (int i = 0; i < 12; ++i) {
    Histogram histogram;
    histogram.positive_spans = {{.offset = -1000, .length = model::kHistogramBucketsMax}};
    for (size_t bucket = 0; bucket < model::kHistogramBucketsMax; ++bucket) {
      histogram.positive_buckets.push_back(std::ldexp(static_cast<double>(random()), -40));
    }
    histogram.count = 1e18 * (i + 1);
    Add(i * 1000, histogram, &large);
  }
  const Frames frames = Encode(large);
  EXPECT_GE(frames.count, 3u);
  EXPECT_LE(frames.bytes_max, size_t{4} << 20);
  size_t read = 0;
  for (const Chunk& chunk : frames.chunks) {
    EXPECT_LE(chunk.bytes.size(), size_t{2} << 20);
    for (const Sample& sample : Decode(chunk).samples) {
      EXPECT_EQ(sample.histogram.positive_buckets, large.histograms[read++]->positive_buckets);
    }
  }
  EXPECT_EQ(read, large.histograms.size());
}

// A series as a client might write it, or as nobody would.
class RandomSeries {
 public:
  explicit RandomSeries(uint64_t seed) : random_(seed) {}

  void Fill(storage::SampleColumns* samples) {
    TimestampMs at = Chance(8) ? std::numeric_limits<TimestampMs>::min() / 2 : 1'732'000'000'000;
    current_ = Fresh();
    const size_t count = 1 + Below(300);
    for (size_t i = 0; i < count; ++i) {
      at += 1 + static_cast<TimestampMs>(Chance(10) ? Below(uint64_t{1} << Below(48)) : Below(20'000));
      if (Chance(40)) current_ = Fresh();
      if (Chance(50)) whole_ = !whole_;
      Grow();
      Histogram written = current_;
      if (Chance(30)) written.sum = model::StaleNan();
      if (Chance(20)) written.counter_reset_hint = static_cast<CounterResetHint>(Below(4));
      Add(at, written, samples);
    }
  }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }
  bool Chance(uint64_t of) { return Below(of) == 0; }

  Histogram Fresh() {
    Histogram out;
    if (Chance(3)) out.counter_reset_hint = CounterResetHint::kGauge;
    if (Chance(3)) {
      out.schema = model::kCustomBucketsSchema;
      double bound = -static_cast<double>(Below(100));
      const size_t bounds = Below(20);
      for (size_t i = 0; i < bounds; ++i) {
        bound += Chance(3) ? 0.1234567 : static_cast<double>(1 + Below(uint64_t{1} << Below(40))) / 1000;
        out.custom_values.push_back(bound);
      }
      out.positive_spans = {{.offset = 0, .length = static_cast<uint32_t>(bounds) + 1}};
    } else {
      out.schema = static_cast<int32_t>(Below(13)) - 4;
      const double thresholds[] = {0, 0.001, 0x1p-128, 0x1p-243, 0x1p-244, 0x1p10, 0x1p11, 3};
      out.zero_threshold = thresholds[Below(std::size(thresholds))];
      out.positive_spans = Spans();
      out.negative_spans = Spans();
    }
    for (auto [spans, buckets] : {std::pair(&out.positive_spans, &out.positive_buckets),
                                  std::pair(&out.negative_spans, &out.negative_buckets)}) {
      size_t size = 0;
      for (const model::Span& span : *spans) size += span.length;
      buckets->resize(size);
    }
    return out;
  }
  std::vector<model::Span> Spans() {
    std::vector<model::Span> out;
    const size_t count = Below(5);
    for (size_t i = 0; i < count; ++i) {
      const auto offset = static_cast<int32_t>(Below(uint64_t{1} << Below(20)));
      out.push_back({.offset = i == 0 && Chance(2) ? -offset : offset, .length = static_cast<uint32_t>(Below(6))});
    }
    return out;
  }
  double Step() {
    const auto step = static_cast<double>(Below(uint64_t{1} << Below(30)));
    return whole_ ? step : step + static_cast<double>(Below(1000)) / 7;
  }
  void Grow() {
    const auto grow = [&](double& count) {
      count = Chance(100) ? Step() : count + Step();
      if (whole_) count = std::floor(count);
      current_.count += count;
    };
    current_.count = 0;
    if (!current_.uses_custom_buckets()) grow(current_.zero_count);
    for (auto* buckets : {&current_.positive_buckets, &current_.negative_buckets}) {
      for (double& bucket : *buckets) grow(bucket);
    }
    current_.sum = Chance(20) ? model::NormalNan() : current_.count * 0.3;
  }

  std::mt19937_64 random_;
  Histogram current_;
  bool whole_ = true;
};

TEST(HistogramChunk, EveryHistogramIsReadBackAsItWas) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    storage::SampleColumns samples;
    RandomSeries(seed).Fill(&samples);
    size_t at = 0;
    for (const Chunk& chunk : Encode(samples).chunks) {
      const Decoded decoded = Decode(chunk);
      for (size_t i = 0; i < decoded.samples.size(); ++i, ++at) {
        ASSERT_LT(at, samples.histograms.size());
        ASSERT_EQ(decoded.samples[i].timestamp, samples.histogram_timestamps[at]);
        Histogram wanted = *samples.histograms[at];
        if (model::IsStaleNan(wanted.sum)) {
          wanted = Histogram();
          wanted.sum = model::StaleNan();
        }
        // What a chunk tells of resets is less than what a sample does, but never more than was so.
        const CounterResetHint told = samples.histograms[at]->counter_reset_hint;
        EXPECT_NE(decoded.samples[i].histogram.counter_reset_hint, CounterResetHint::kReset);
        if (decoded.header == Header::kGauge) EXPECT_EQ(told, CounterResetHint::kGauge);
        if (i > 0 && !model::IsStaleNan(wanted.sum)) EXPECT_NE(told, CounterResetHint::kReset);
        wanted.counter_reset_hint = decoded.samples[i].histogram.counter_reset_hint;
        ASSERT_TRUE(decoded.samples[i].histogram.IdenticalTo(wanted)) << at;
      }
    }
    EXPECT_EQ(at, samples.histograms.size());
  }
}

}  // namespace
}  // namespace millstream::wire
