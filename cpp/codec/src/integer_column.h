// The integer codecs without their codec byte, for the columns that build on them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/column.h"

namespace millstream::codec::internal {

inline constexpr size_t kFrameItems = 128;

// kFrame, kDelta or kDeltaOfDelta.
void PutIntegers(ColumnCodec codec, std::span<const int64_t> column, std::string* out);
bool GetIntegers(ColumnCodec codec, ByteReader* in, std::span<int64_t> out);

// How many bytes PutIntegers would write.
size_t IntegersBytes(ColumnCodec codec, std::span<const int64_t> column);

// The one of the three that is shortest.
ColumnCodec ShortestIntegers(std::span<const int64_t> column);

}  // namespace millstream::codec::internal
