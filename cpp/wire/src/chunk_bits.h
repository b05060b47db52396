// What the encodings of Prometheus's chunks are made of: bits from the highest one of a byte down, columns of doubles
// as their XOR, and columns of integers as the difference of their differences.
//
// Threads     None: each belongs to who makes it.
// Source      Prometheus's tsdb/chunkenc; T. Pelkonen et al., "Gorilla: a fast, scalable, in-memory time series
//             database", VLDB 2015.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millstream::wire {

class HighBitWriter {
 public:
  explicit HighBitWriter(std::string* out) : out_(*out) {}

  // The lowest `width` bits of `bits`.
  void Write(uint64_t bits, int width);
  void WriteBytes(std::string_view bytes) {
    for (const char byte : bytes) Write(static_cast<unsigned char>(byte), 8);
  }
  void WriteDouble(double value);
  // The more bits the further from 0: 1 for 0, 5 for -3 to 4, up to 72.
  void WriteSigned(int64_t value);
  // The same widths for 0, up to 7, and so on.
  void WriteUnsigned(uint64_t value);

 private:
  std::string& out_;
  int free_ = 0;  // bits of the last byte
};

// Whether a signed number of `width` bits can hold it, in the range that the formats use: the lowest is left out, and
// there is one more above.
inline bool FitsSigned(int64_t value, int width) {
  return -((int64_t{1} << (width - 1)) - 1) <= value && value <= int64_t{1} << (width - 1);
}

class XorColumn {
 public:
  // Before any Write.
  void WriteFirst(double value, HighBitWriter* out);
  void Write(double value, HighBitWriter* out);

 private:
  uint64_t previous_ = 0;
  bool has_window_ = false;
  int leading_ = 0;
  int trailing_ = 0;
};

// Differences are modulo 2^64, as the reader adds.
class DeltaColumn {
 public:
  explicit DeltaColumn(uint64_t first) : previous_(first) {}
  void Write(uint64_t value, HighBitWriter* out) {
    const uint64_t delta = value - previous_;
    out->WriteSigned(static_cast<int64_t>(delta - delta_));
    previous_ = value;
    delta_ = delta;
  }

 private:
  uint64_t previous_;
  uint64_t delta_ = 0;
};

}  // namespace millstream::wire
