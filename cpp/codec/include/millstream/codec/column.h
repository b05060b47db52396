// Columns of timestamps and of values as few bytes, and back, bit by bit.
//
// A column is one byte that names its codec and the codec's own bytes; how many items it has is stored by whoever holds
// it. Encode tries the codecs and keeps the shortest result. Layouts are drawn in docs/formats/chunk.md.
// Threads     Pure functions.
// Cost        O(items) for each codec tried; decoding allocates at most eight bytes an item.
// Errors      kDataLoss for bytes that no encoder writes; *out is then unspecified.
// Source      Delta-of-delta and XOR: Pelkonen et al., "Gorilla", VLDB 2015. Decimal scaling: Afroozeh, Kuffo and
//             Boncz, "ALP: Adaptive Lossless floating-Point Compression", SIGMOD 2024.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "millstream/base/status.h"
#include "millstream/codec/byte_io.h"

namespace millstream::codec {

// Items of one column.
inline constexpr size_t kColumnItemsMax = 65'536;

enum class ColumnCodec : uint8_t {
  kRaw = 0,            // eight bytes an item
  kConstant = 1,       // one item for all
  kFixedInterval = 2,  // integers: the first and the step
  kFrame = 3,          // integers: bit-packed differences to each block's least
  kDelta = 4,          // integers: kFrame over the differences
  kDeltaOfDelta = 5,   // integers: kFrame over the differences of the differences
  kDecimal = 6,        // doubles: kFrame, kDelta or kDeltaOfDelta over value · 10^e, with exceptions
  kXor = 7,            // doubles: the bits in which neighbours differ
};

// At most kColumnItemsMax items; more abort.
void EncodeIntegers(std::span<const int64_t> column, std::string* out);
void EncodeDoubles(std::span<const double> column, std::string* out);

// Encodes with this codec, or returns false and leaves *out alone when it cannot hold the column.
bool EncodeIntegersAs(ColumnCodec codec, std::span<const int64_t> column, std::string* out);
bool EncodeDoublesAs(ColumnCodec codec, std::span<const double> column, std::string* out);

// Fills `out` from the front of `in` and moves `in` behind the column.
Status DecodeIntegers(ByteReader* in, std::span<int64_t> out);
Status DecodeDoubles(ByteReader* in, std::span<double> out);

}  // namespace millstream::codec
