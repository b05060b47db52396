// Tags of protobuf's encoding: a field's number and how the field is encoded.
#pragma once

#include <cstdint>

namespace millstream::node {

constexpr uint64_t VarintTag(uint64_t field) {
  return field << 3;
}
constexpr uint64_t BytesTag(uint64_t field) {
  return field << 3 | 2;
}

}  // namespace millstream::node
