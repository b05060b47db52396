// CRC32C (Castagnoli): the checksum of every record and page that Millstream stores.
//
// Threads     Pure functions.
// Cost        The CPU's own instruction where it has one (SSE4.2, ARMv8 CRC; chosen at run time), else eight table
//             look-ups per eight bytes.
// Source      RFC 3720, appendix B.4. Polynomial 0x1EDC6F41, reflected, initial and final inversion.
#pragma once

#include <cstdint>
#include <string_view>

namespace millstream::codec {

// The checksum of `bytes`. Crc32c("123456789") is 0xE3069283.
uint32_t Crc32c(std::string_view bytes);

// The checksum of A + `bytes`, given `crc`, the checksum of A. The checksum of nothing is 0.
uint32_t Crc32cExtend(uint32_t crc, std::string_view bytes);

// As Crc32cExtend, always by tables: what a CPU without the instruction runs.
uint32_t Crc32cExtendPortable(uint32_t crc, std::string_view bytes);

}  // namespace millstream::codec
