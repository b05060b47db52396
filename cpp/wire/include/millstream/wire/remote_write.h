// Remote write 1.0: a prometheus.WriteRequest in a snappy block.
//
// Errors      kInvalidArgument: the body as a whole is malformed; nothing of it may be stored. kResourceExhausted: it
//             is too large. A series that breaks a rule is refused by itself (errors by index of the series, from 0).
//             Exemplars are checked for form and left out.
// Limits      The declared length is compared with kRemoteWriteBytesMax and with what snappy can expand to before a
// byte
//             is allocated. No length in the message is believed before it was compared with what is left.
// Source      prometheus.io, "Prometheus Remote-Write 1.0 specification".
#pragma once

#include <string_view>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kRemoteWriteBytesMax = 32 << 20;

Result<DecodedWrite> DecodeRemoteWrite(std::string_view compressed);

// The same without compression: `message` is the protobuf message.
Result<DecodedWrite> DecodeRemoteWriteMessage(std::string message);

}  // namespace millstream::wire
