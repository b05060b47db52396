// Remote write, both versions, each in a snappy block: prometheus.WriteRequest and io.prometheus.write.v2.Request.
//
// Errors      The body as a whole; nothing of it may be stored, and sending it again does not help. kInvalidArgument:
//             it is malformed. kOutOfRange: it is larger than the limits below. A series, histogram or exemplar that
//             breaks a rule is refused by itself (errors by index of the series, from 0).
// Limits      The declared length is compared with kRemoteWriteBytesMax and with what snappy can expand to before a
//             byte is allocated. No length in the message is believed before it was compared with what is left, no
//             reference to a symbol before it was compared with the table, and what references make of a small message
//             is bounded too.
// Source      prometheus.io, "Prometheus Remote-Write 1.0 specification" and "Prometheus Remote-Write 2.0
//             specification".
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kRemoteWriteBytesMax = 32 << 20;
inline constexpr size_t kRemoteWriteSeriesMax = 1'000'000;
inline constexpr size_t kRemoteWriteSamplesMax = 4'000'000;
inline constexpr size_t kRemoteWriteExemplarsMax = 100'000;
inline constexpr size_t kRemoteWriteMetadataMax = 100'000;
inline constexpr size_t kRemoteWriteHistogramBytesMax = 128 << 20;  // in memory
inline constexpr size_t kRemoteWriteSymbolsMax = 1'000'000;
// Of labels and metadata, once each symbol stands where it is referred to.
inline constexpr size_t kRemoteWriteExpandedBytesMax = 64 << 20;

Result<DecodedWrite> DecodeRemoteWrite(std::string_view compressed);
// Version 2. Metadata is that of the metric, so the suffixes of a classic histogram's or a summary's series are cut
// off.
Result<DecodedWrite> DecodeRemoteWriteV2(std::string_view compressed);

// The same without compression: `message` is the protobuf message.
Result<DecodedWrite> DecodeRemoteWriteMessage(std::string message);
Result<DecodedWrite> DecodeRemoteWriteV2Message(std::string message);

}  // namespace millstream::wire
