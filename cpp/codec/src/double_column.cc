#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "integer_column.h"
#include "millstream/base/check.h"
#include "millstream/codec/bit_io.h"
#include "millstream/codec/column.h"

namespace millstream::codec {
namespace {

// Every one is exact in a double, so scaled / kPowersOfTen[e] is the double nearest to the decimal: what a parser of
// the decimal text would yield.
constexpr std::array<double, 19> kPowersOfTen = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                                 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
constexpr int kExponentMax = 15;
// Integers up to here are exact in a double.
constexpr double kScaledMax = 9007199254740992.0;
constexpr size_t kExponentProbes = 16;

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

// Whether value · 10^exponent is a whole number from which value comes back bit by bit.
bool Scale(double value, int exponent, int64_t* scaled) {
  const double power = kPowersOfTen[static_cast<size_t>(exponent)];
  const double product = value * power;
  // Also false for NaN.
  if (!(std::fabs(product) <= kScaledMax)) return false;
  *scaled = static_cast<int64_t>(std::nearbyint(product));
  // By way of the integer, which has no negative zero.
  return SameBits(static_cast<double>(*scaled) / power, value);
}

struct Decimal {
  int exponent = 0;
  std::vector<int64_t> scaled;
  std::vector<uint32_t> exceptions;  // positions whose bits are stored as they are
};

// False when more than one item in eight is an exception.
bool ToDecimal(std::span<const double> column, Decimal* out) {
  const size_t exceptions_max = column.size() / 8 + 1;
  // The exponent that the most of a few probes need: probing all of them for all items would cost more than it saves.
  std::array<int, kExponentMax + 1> votes{};
  const size_t stride = std::max<size_t>(1, column.size() / kExponentProbes);
  int highest = -1;
  for (size_t i = 0; i < column.size(); i += stride) {
    int64_t scaled = 0;
    for (int e = 0; e <= kExponentMax; ++e) {
      if (Scale(column[i], e, &scaled)) {
        ++votes[static_cast<size_t>(e)];
        highest = std::max(highest, e);
        break;
      }
    }
  }
  // A probe that needs few digits also scales with more: try from the highest needed down.
  for (int e = highest; e >= 0; --e) {
    if (votes[static_cast<size_t>(e)] == 0) continue;
    out->exponent = e;
    out->scaled.assign(column.size(), 0);
    out->exceptions.clear();
    int64_t previous = 0;
    int64_t step = 0;
    for (size_t i = 0; i < column.size(); ++i) {
      int64_t scaled = 0;
      if (Scale(column[i], e, &scaled)) {
        step = scaled - previous;
        previous = scaled;
        out->scaled[i] = scaled;
      } else {
        // Going on as before keeps the differences small.
        if (std::abs(previous + step) <= static_cast<int64_t>(kScaledMax)) previous += step;
        out->scaled[i] = previous;
        out->exceptions.push_back(static_cast<uint32_t>(i));
        if (out->exceptions.size() > exceptions_max) break;
      }
    }
    if (out->exceptions.size() <= exceptions_max) return true;
  }
  return false;
}

void PutDecimal(std::span<const double> column, const Decimal& decimal, std::string* out) {
  ByteWriter writer(out);
  const ColumnCodec inner = internal::ShortestIntegers(decimal.scaled);
  writer.U8(static_cast<uint8_t>(ColumnCodec::kDecimal));
  writer.U8(static_cast<uint8_t>(decimal.exponent));
  writer.U8(static_cast<uint8_t>(inner));
  writer.Varint(decimal.exceptions.size());
  uint32_t previous = 0;
  for (const uint32_t position : decimal.exceptions) {
    writer.Varint(position - previous);
    writer.Double(column[position]);
    previous = position;
  }
  internal::PutIntegers(inner, decimal.scaled, out);
}

bool GetDecimal(ByteReader* in, std::span<double> out) {
  uint8_t exponent = 0;
  uint8_t inner = 0;
  uint64_t exceptions = 0;
  if (!in->U8(&exponent) || exponent > kExponentMax || !in->U8(&inner)) return false;
  if (inner < static_cast<uint8_t>(ColumnCodec::kFrame) || inner > static_cast<uint8_t>(ColumnCodec::kDeltaOfDelta)) {
    return false;
  }
  if (!in->Count(&exceptions, out.size())) return false;
  ByteReader patches = *in;
  for (uint64_t i = 0; i < exceptions; ++i) {
    uint64_t gap = 0;
    double ignored = 0;
    if (!in->Varint(&gap) || !in->Double(&ignored)) return false;
  }
  std::vector<int64_t> scaled(out.size());
  if (!internal::GetIntegers(static_cast<ColumnCodec>(inner), in, scaled)) return false;
  const double power = kPowersOfTen[exponent];
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(scaled[i]) / power;
  uint64_t position = 0;
  for (uint64_t i = 0; i < exceptions; ++i) {
    uint64_t gap = 0;
    double value = 0;
    if (!patches.Varint(&gap) || !patches.Double(&value)) return false;
    if (gap >= out.size() || position + gap >= out.size()) return false;
    position += gap;
    out[position] = value;
  }
  return true;
}

// Per item: 0 = as before; 10 = the differing bits lie within the window of the one before; 11 = a new window: six bits
// of leading zeros, six bits of length - 1, then the bits.
void PutXor(std::span<const double> column, std::string* out) {
  ByteWriter(out).U8(static_cast<uint8_t>(ColumnCodec::kXor));
  BitWriter bits(out);
  uint64_t previous = 0;
  int leading = 64;
  int length = 0;
  for (const double value : column) {
    const uint64_t now = std::bit_cast<uint64_t>(value);
    const uint64_t differs = now ^ previous;
    previous = now;
    if (differs == 0) {
      bits.Write(0, 1);
      continue;
    }
    const int zeros_before = std::countl_zero(differs);
    const int zeros_after = std::countr_zero(differs);
    bits.Write(1, 1);
    const int window_after = 64 - leading - length;
    // A window much too wide costs more per item than a new one costs once.
    const bool fits = length > 0 && zeros_before >= leading && zeros_after >= window_after;
    if (fits && length - (64 - zeros_before - zeros_after) <= 12) {
      bits.Write(0, 1);
      bits.Write(differs >> window_after, length);
      continue;
    }
    leading = zeros_before;
    length = 64 - zeros_before - zeros_after;
    bits.Write(1, 1);
    bits.Write(static_cast<uint64_t>(leading), 6);
    bits.Write(static_cast<uint64_t>(length - 1), 6);
    bits.Write(differs >> zeros_after, length);
  }
  bits.Finish();
}

bool GetXor(ByteReader* in, std::span<double> out) {
  BitReader bits(in->rest());
  uint64_t previous = 0;
  int leading = 64;
  int length = 0;
  for (double& value : out) {
    uint64_t flag = 0;
    if (!bits.Read(1, &flag)) return false;
    if (flag != 0) {
      if (!bits.Read(1, &flag)) return false;
      if (flag != 0) {
        uint64_t zeros = 0;
        uint64_t size = 0;
        if (!bits.Read(6, &zeros) || !bits.Read(6, &size)) return false;
        leading = static_cast<int>(zeros);
        length = static_cast<int>(size) + 1;
      }
      if (length == 0 || leading + length > 64) return false;
      uint64_t differs = 0;
      if (!bits.Read(length, &differs)) return false;
      previous ^= differs << (64 - leading - length);
    }
    value = std::bit_cast<double>(previous);
  }
  std::string_view ignored;
  return in->Raw(bits.bytes_read(), &ignored);
}

}  // namespace

bool EncodeDoublesAs(ColumnCodec codec, std::span<const double> column, std::string* out) {
  MS_CHECK(column.size() <= kColumnItemsMax);
  ByteWriter writer(out);
  switch (codec) {
    case ColumnCodec::kRaw:
      writer.U8(static_cast<uint8_t>(codec));
      for (const double item : column) writer.Double(item);
      return true;
    case ColumnCodec::kConstant:
      if (column.empty() ||
          !std::all_of(column.begin(), column.end(), [&](double x) { return SameBits(x, column[0]); })) {
        return false;
      }
      writer.U8(static_cast<uint8_t>(codec));
      writer.Double(column[0]);
      return true;
    case ColumnCodec::kDecimal: {
      Decimal decimal;
      if (!ToDecimal(column, &decimal)) return false;
      PutDecimal(column, decimal, out);
      return true;
    }
    case ColumnCodec::kXor:
      PutXor(column, out);
      return true;
    case ColumnCodec::kFixedInterval:
    case ColumnCodec::kFrame:
    case ColumnCodec::kDelta:
    case ColumnCodec::kDeltaOfDelta:
      return false;
  }
  return false;
}

void EncodeDoubles(std::span<const double> column, std::string* out) {
  if (EncodeDoublesAs(ColumnCodec::kConstant, column, out)) return;
  std::string best;
  EncodeDoublesAs(ColumnCodec::kDecimal, column, &best);
  // One byte or so an item cannot be beaten by XOR by much; skip the trial.
  if (best.empty() || best.size() > column.size()) {
    std::string other;
    EncodeDoublesAs(ColumnCodec::kXor, column, &other);
    if (best.empty() || other.size() < best.size()) best = std::move(other);
  }
  if (best.size() > column.size() * 8 + 1) {
    best.clear();
    EncodeDoublesAs(ColumnCodec::kRaw, column, &best);
  }
  out->append(best);
}

Status DecodeDoubles(ByteReader* in, std::span<double> out) {
  uint8_t codec = 0;
  if (!in->U8(&codec)) return DataLoss("a column of doubles is cut off");
  bool good = true;
  switch (static_cast<ColumnCodec>(codec)) {
    case ColumnCodec::kRaw:
      for (size_t i = 0; good && i < out.size(); ++i) good = in->Double(&out[i]);
      break;
    case ColumnCodec::kConstant: {
      double item = 0;
      good = in->Double(&item);
      std::fill(out.begin(), out.end(), item);
      break;
    }
    case ColumnCodec::kDecimal:
      good = GetDecimal(in, out);
      break;
    case ColumnCodec::kXor:
      good = GetXor(in, out);
      break;
    default:
      return DataLoss("a column of doubles has the codec {}", codec);
  }
  if (!good) return DataLoss("a column of doubles of codec {} is cut off or malformed", codec);
  return Status::Ok();
}

}  // namespace millstream::codec
