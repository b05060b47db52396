// Column batches: decoded samples as bytes again, to be carried to where they are stored.
//
// What is decoded or aggregated beside the engine (Graphite lines, StatsD flushes, native frames) crosses to it, in
// this process or over gRPC, in this one form; a native datagram carries it too.
// Layout      docs/formats/native.md, "Column batch".
// Errors      DecodeColumnBatch: kInvalidArgument for a body that breaks the layout, kResourceExhausted past a limit;
//             nothing of it may be stored. Errors of single series are those of their labels, found later.
// Limits      kColumnBatchBytesMax bytes; every count is checked against the bytes that are left before memory is
//             taken for it.
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kColumnBatchBytesMax = 64 << 20;

// `write` must have LabelEncoding::kPairs. Items, errors and metadata are left out; a decoded batch counts series from
// 0 in their place.
std::string EncodeColumnBatch(const DecodedWrite& write);

Result<DecodedWrite> DecodeColumnBatch(std::string body);

}  // namespace millstream::wire
