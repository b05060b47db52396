// Influx line protocol, versions 1 and 2: measurement[,tag=value…] field=value[,field=value…] [timestamp]
//
// Each field is a series of its own, named measurement_field; tags are its labels. Numbers, integers (i), unsigned
// integers (u) and booleans (1 and 0) are samples; times are rounded down to milliseconds.
// Errors      Items are lines from 1; a point that spans lines because of a string counts by its first. A line that
//             breaks the grammar is refused as one item. A field that is no number is refused by itself, named in the
//             reason; the others of its line stay. kInvalidArgument when the body unfolds to more than
//             kLineLabelBytesMax of labels; nothing of it may be stored then.
// Limits      A series' names, tags and their values have at most kLineKeyBytesMax bytes together, as in InfluxDB.
// Cost        One pass, save that a line after a broken string is read twice.
// Source      docs.influxdata.com "Line protocol"; for what it leaves open, the parser of InfluxDB 1.8.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kLineKeyBytesMax = 65'535;
inline constexpr size_t kLineLabelBytesMax = size_t{256} << 20;

// The unit of the timestamps of a body.
enum class LinePrecision : uint8_t { kNanoseconds, kMicroseconds, kMilliseconds, kSeconds, kMinutes, kHours };

// ns, n, us, u, µ, µs, ms, s, m, h; nothing for another text. No text is nanoseconds.
std::optional<LinePrecision> ParseLinePrecision(std::string_view text);

// Points without a timestamp get `default_timestamp`.
Result<DecodedWrite> DecodeLineProtocol(std::string_view text, LinePrecision precision, TimestampMs default_timestamp);

}  // namespace millstream::wire
