// The formats that Database::Push takes, by name: the one place where a decoder of `wire` is made a format.
#pragma once

#include "millstream/base/result.h"
#include "millstream/engine/write_request.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::engine {

// kInvalidArgument: the format or an option is unknown, or the body is malformed as a whole. kResourceExhausted: it is
// too large.
Result<wire::DecodedWrite> Decode(const WriteRequest& request);

}  // namespace millstream::engine
