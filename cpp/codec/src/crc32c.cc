#include "millstream/codec/crc32c.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace millstream::codec {
namespace {

static_assert(std::endian::native == std::endian::little, "eight bytes are folded as one little-endian word");

constexpr uint32_t kReflectedPolynomial = 0x82F63B78;

// kTables[k][b] is the CRC state after byte b and k zero bytes: eight of them fold one 64-bit word at once.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t state = byte;
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? kReflectedPolynomial : 0);
    tables[0][byte] = state;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

// The instruction answers three cycles after it was asked, and can be asked each cycle: three stretches of kStride
// bytes are folded side by side, and joined.
constexpr size_t kStride = 256;

// kPast[k][b] is what kStride zero bytes make of a state that is b in its byte k and 0 elsewhere. Of the whole state
// they make the XOR of the four.
using PastTables = std::array<std::array<uint32_t, 256>, 4>;

constexpr PastTables MakePastTables() {
  PastTables tables{};
  for (size_t k = 0; k < tables.size(); ++k) {
    for (size_t bit = 0; bit < 8; ++bit) {
      uint32_t state = uint32_t{1} << (8 * k + bit);
      for (size_t i = 0; i < kStride; ++i) state = (state >> 8) ^ kTables[0][state & 0xFF];
      const size_t value = size_t{1} << bit;
      for (size_t low = 0; low < value; ++low) tables[k][value + low] = tables[k][low] ^ state;
    }
  }
  return tables;
}

constexpr PastTables kPast = MakePastTables();

uint32_t PastStride(uint64_t state) {
  return kPast[0][state & 0xFF] ^ kPast[1][state >> 8 & 0xFF] ^ kPast[2][state >> 16 & 0xFF] ^
         kPast[3][state >> 24 & 0xFF];
}

uint64_t LoadWord(const char* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// MILLSTREAM_CRC_TARGET lets a function use the instruction, which Fold of eight bytes and of one are.
#if defined(__x86_64__)

#define MILLSTREAM_CRC_TARGET __attribute__((target("sse4.2")))
MILLSTREAM_CRC_TARGET inline uint64_t Fold(uint64_t state, uint64_t word) {
  return _mm_crc32_u64(state, word);
}
MILLSTREAM_CRC_TARGET inline uint64_t Fold(uint64_t state, uint8_t byte) {
  return _mm_crc32_u8(static_cast<uint32_t>(state), byte);
}

bool HasInstruction() {
  return __builtin_cpu_supports("sse4.2") != 0;
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define MILLSTREAM_CRC_TARGET __attribute__((target("crc")))
#else
#define MILLSTREAM_CRC_TARGET __attribute__((target("+crc")))
#endif
MILLSTREAM_CRC_TARGET inline uint64_t Fold(uint64_t state, uint64_t word) {
  return __crc32cd(static_cast<uint32_t>(state), word);
}
MILLSTREAM_CRC_TARGET inline uint64_t Fold(uint64_t state, uint8_t byte) {
  return __crc32cb(static_cast<uint32_t>(state), byte);
}

bool HasInstruction() {
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

#endif

#if defined(MILLSTREAM_CRC_TARGET)

MILLSTREAM_CRC_TARGET uint32_t ExtendByInstruction(uint32_t crc, std::string_view bytes) {
  uint64_t state = static_cast<uint32_t>(~crc);
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 3 * kStride; at += 3 * kStride, left -= 3 * kStride) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kStride; i += 8) {
      state = Fold(state, LoadWord(at + i));
      second = Fold(second, LoadWord(at + kStride + i));
      third = Fold(third, LoadWord(at + 2 * kStride + i));
    }
    state = PastStride(PastStride(state) ^ second) ^ third;
  }
  for (; left >= 8; at += 8, left -= 8) state = Fold(state, LoadWord(at));
  for (; left > 0; ++at, --left) state = Fold(state, static_cast<uint8_t>(*at));
  return ~static_cast<uint32_t>(state);
}

#else

uint32_t ExtendByInstruction(uint32_t crc, std::string_view bytes) {
  return Crc32cExtendPortable(crc, bytes);
}

bool HasInstruction() {
  return false;
}

#endif

}  // namespace

uint32_t Crc32cExtendPortable(uint32_t crc, std::string_view bytes) {
  uint32_t state = ~crc;
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    const uint64_t word = LoadWord(at) ^ state;
    state = 0;
    for (size_t k = 0; k < 8; ++k) state ^= kTables[7 - k][(word >> (8 * k)) & 0xFF];
  }
  for (; left > 0; ++at, --left) state = (state >> 8) ^ kTables[0][(state ^ static_cast<uint8_t>(*at)) & 0xFF];
  return ~state;
}

uint32_t Crc32cExtend(uint32_t crc, std::string_view bytes) {
  static const bool has_instruction = HasInstruction();
  return has_instruction ? ExtendByInstruction(crc, bytes) : Crc32cExtendPortable(crc, bytes);
}

uint32_t Crc32c(std::string_view bytes) {
  return Crc32cExtend(0, bytes);
}

}  // namespace millstream::codec
