#include "integer_column.h"

#include <algorithm>
#include <array>
#include <bit>

#include "millstream/base/check.h"
#include "millstream/codec/bit_io.h"
#include "millstream/codec/span_writer.h"

namespace millstream::codec {
namespace internal {
namespace {

// Differences wrap around: any int64 column survives the way there and back.
int64_t Subtract(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
int64_t Add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

// The items of a column as differences of an order, produced one frame at a time.
class Differences {
 public:
  Differences(ColumnCodec codec, std::span<const int64_t> column)
      : order_(codec == ColumnCodec::kFrame ? 0 : (codec == ColumnCodec::kDelta ? 1 : 2)), column_(column) {}

  // Empty at the end.
  std::span<const int64_t> NextFrame() {
    const size_t n = std::min(kFrameItems, column_.size() - next_);
    for (size_t i = 0; i < n; ++i) {
      const int64_t value = column_[next_ + i];
      const int64_t delta = Subtract(value, value_);
      switch (order_) {
        case 0:
          frame_[i] = value;
          break;
        case 1:
          frame_[i] = delta;
          break;
        default:
          frame_[i] = Subtract(delta, delta_);
      }
      value_ = value;
      delta_ = delta;
    }
    // The first differences are to zero: outliers that would widen their frame, so they are stored apart.
    if (next_ == 0) {
      for (size_t i = 0; i < std::min<size_t>(n, static_cast<size_t>(order_)); ++i) {
        head_[i] = frame_[i];
        frame_[i] = n > static_cast<size_t>(order_) ? frame_[static_cast<size_t>(order_)] : 0;
      }
    }
    next_ += n;
    return std::span<const int64_t>(frame_.data(), n);
  }
  int64_t head(size_t i) const { return head_[i]; }
  size_t order() const { return static_cast<size_t>(order_); }

 private:
  const int order_;
  const std::span<const int64_t> column_;
  size_t next_ = 0;
  int64_t value_ = 0;
  int64_t delta_ = 0;
  std::array<int64_t, kFrameItems> frame_{};
  std::array<int64_t, 2> head_{};
};

struct FrameShape {
  int64_t least;
  int width;
};

FrameShape ShapeOf(std::span<const int64_t> frame) {
  const auto [least, most] = std::minmax_element(frame.begin(), frame.end());
  return {*least, static_cast<int>(std::bit_width(static_cast<uint64_t>(*most) - static_cast<uint64_t>(*least)))};
}

}  // namespace

void PutIntegers(ColumnCodec codec, std::span<const int64_t> column, std::string* out) {
  ByteWriter writer(out);
  Differences differences(codec, column);
  bool first = true;
  for (auto frame = differences.NextFrame(); !frame.empty(); frame = differences.NextFrame()) {
    if (first) {
      for (size_t i = 0; i < std::min(differences.order(), column.size()); ++i) {
        writer.SignedVarint(differences.head(i));
      }
      first = false;
    }
    const FrameShape shape = ShapeOf(frame);
    writer.SignedVarint(shape.least);
    writer.U8(static_cast<uint8_t>(shape.width));
    BitWriter bits(out);
    for (const int64_t item : frame) {
      bits.Write(static_cast<uint64_t>(item) - static_cast<uint64_t>(shape.least), shape.width);
    }
    bits.Finish();
  }
}

size_t IntegersBytes(ColumnCodec codec, std::span<const int64_t> column) {
  Differences differences(codec, column);
  size_t bytes = 0;
  bool first = true;
  for (auto frame = differences.NextFrame(); !frame.empty(); frame = differences.NextFrame()) {
    if (first) {
      for (size_t i = 0; i < std::min(differences.order(), column.size()); ++i) {
        bytes += VarintBytes(ZigZag(differences.head(i)));
      }
      first = false;
    }
    const FrameShape shape = ShapeOf(frame);
    bytes += VarintBytes(ZigZag(shape.least)) + 1 + (frame.size() * static_cast<size_t>(shape.width) + 7) / 8;
  }
  return bytes;
}

namespace {

// kOrder: of the differences that are stored.
template <size_t kOrder>
bool GetDifferences(ByteReader* in, std::span<int64_t> out) {
  std::array<int64_t, 2> head{};
  for (size_t i = 0; i < std::min(kOrder, out.size()); ++i) {
    if (!in->SignedVarint(&head[i])) return false;
  }
  int64_t value = 0;
  int64_t delta = 0;
  for (size_t begin = 0; begin < out.size(); begin += kFrameItems) {
    const size_t n = std::min(kFrameItems, out.size() - begin);
    int64_t least = 0;
    uint8_t width = 0;
    if (!in->SignedVarint(&least) || !in->U8(&width) || width > 64) return false;
    std::string_view packed;
    if (!in->Raw((n * width + 7) / 8, &packed)) return false;
    BitReader bits(packed);
    for (size_t i = 0; i < n; ++i) {
      uint64_t offset = 0;
      if (!bits.Read(width, &offset)) return false;
      int64_t item = Add(least, static_cast<int64_t>(offset));
      if (begin + i < kOrder) item = head[begin + i];
      if constexpr (kOrder == 0) {
        value = item;
      } else {
        delta = kOrder == 1 ? item : Add(delta, item);
        value = Add(value, delta);
      }
      out[begin + i] = value;
    }
  }
  return true;
}

}  // namespace

bool GetIntegers(ColumnCodec codec, ByteReader* in, std::span<int64_t> out) {
  switch (codec) {
    case ColumnCodec::kFrame:
      return GetDifferences<0>(in, out);
    case ColumnCodec::kDelta:
      return GetDifferences<1>(in, out);
    default:
      return GetDifferences<2>(in, out);
  }
}

ColumnCodec ShortestIntegers(std::span<const int64_t> column) {
  ColumnCodec best = ColumnCodec::kFrame;
  size_t best_bytes = IntegersBytes(best, column);
  for (const ColumnCodec codec : {ColumnCodec::kDelta, ColumnCodec::kDeltaOfDelta}) {
    const size_t bytes = IntegersBytes(codec, column);
    if (bytes < best_bytes) {
      best = codec;
      best_bytes = bytes;
    }
  }
  return best;
}

}  // namespace internal

bool EncodeIntegersAs(ColumnCodec codec, std::span<const int64_t> column, std::string* out) {
  MS_CHECK(column.size() <= kColumnItemsMax);
  ByteWriter writer(out);
  switch (codec) {
    case ColumnCodec::kRaw:
      writer.U8(static_cast<uint8_t>(codec));
      for (const int64_t item : column) writer.U64(static_cast<uint64_t>(item));
      return true;
    case ColumnCodec::kConstant:
      if (column.empty() || !std::all_of(column.begin(), column.end(), [&](int64_t x) { return x == column[0]; })) {
        return false;
      }
      writer.U8(static_cast<uint8_t>(codec));
      writer.SignedVarint(column[0]);
      return true;
    case ColumnCodec::kFixedInterval: {
      if (column.size() < 2) return false;
      const int64_t step = internal::Subtract(column[1], column[0]);
      for (size_t i = 2; i < column.size(); ++i) {
        if (internal::Subtract(column[i], column[i - 1]) != step) return false;
      }
      writer.U8(static_cast<uint8_t>(codec));
      writer.SignedVarint(column[0]);
      writer.SignedVarint(step);
      return true;
    }
    case ColumnCodec::kFrame:
    case ColumnCodec::kDelta:
    case ColumnCodec::kDeltaOfDelta:
      writer.U8(static_cast<uint8_t>(codec));
      internal::PutIntegers(codec, column, out);
      return true;
    case ColumnCodec::kDecimal:
    case ColumnCodec::kXor:
      return false;
  }
  return false;
}

void EncodeIntegers(std::span<const int64_t> column, std::string* out) {
  if (EncodeIntegersAs(ColumnCodec::kConstant, column, out)) return;
  if (EncodeIntegersAs(ColumnCodec::kFixedInterval, column, out)) return;
  ColumnCodec best = internal::ShortestIntegers(column);
  if (internal::IntegersBytes(best, column) >= column.size() * 8) best = ColumnCodec::kRaw;
  MS_CHECK(EncodeIntegersAs(best, column, out));
}

Status DecodeIntegers(ByteReader* in, std::span<int64_t> out) {
  uint8_t codec = 0;
  if (!in->U8(&codec)) return DataLoss("an integer column is cut off");
  bool good = true;
  switch (static_cast<ColumnCodec>(codec)) {
    case ColumnCodec::kRaw:
      for (size_t i = 0; good && i < out.size(); ++i) {
        uint64_t item = 0;
        good = in->U64(&item);
        out[i] = static_cast<int64_t>(item);
      }
      break;
    case ColumnCodec::kConstant: {
      int64_t item = 0;
      good = in->SignedVarint(&item);
      std::fill(out.begin(), out.end(), item);
      break;
    }
    case ColumnCodec::kFixedInterval: {
      int64_t item = 0;
      int64_t step = 0;
      good = in->SignedVarint(&item) && in->SignedVarint(&step);
      for (int64_t& slot : out) {
        slot = item;
        item = internal::Add(item, step);
      }
      break;
    }
    case ColumnCodec::kFrame:
    case ColumnCodec::kDelta:
    case ColumnCodec::kDeltaOfDelta:
      good = internal::GetIntegers(static_cast<ColumnCodec>(codec), in, out);
      break;
    default:
      return DataLoss("an integer column has the codec {}", codec);
  }
  if (!good) return DataLoss("an integer column of codec {} is cut off or malformed", codec);
  return Status::Ok();
}

}  // namespace millstream::codec
