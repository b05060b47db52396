#include "event_convert.h"
#include "millstream/codec/byte_io.h"
#include "submit_wire.h"
#include "wire_tag.h"

namespace millstream::node {
namespace {

using codec::ByteWriter;

size_t VarintBytes(uint64_t value) {
  size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

void WritePlace(std::string_view topic, const events::Published& place, ByteWriter& out) {
  const auto number = [&out](uint64_t field, uint64_t value) {
    if (value == 0) return;
    out.Varint(VarintTag(field));
    out.Varint(value);
  };
  out.Varint(BytesTag(1));
  out.Bytes(place.id);
  out.Varint(BytesTag(2));
  out.Bytes(topic);
  number(3, place.partition);
  number(4, place.offset);
  number(5, static_cast<uint64_t>(ToProto(place.status)));
  number(6, static_cast<uint64_t>(place.timestamp));
}

}  // namespace

std::string WriteSubmitted(uint64_t id, std::span<const events::PublishEvent> events,
                           std::span<const Result<events::Published>> answers) {
  std::string submitted;
  submitted.reserve(answers.size() * 96);
  ByteWriter out(&submitted);
  std::string one;
  for (size_t i = 0; i < answers.size(); ++i) {
    one.clear();
    uint64_t outcome = BytesTag(1);
    if (answers[i].ok()) {
      ByteWriter place(&one);
      WritePlace(events[i].topic, *answers[i], place);
    } else {
      v1::EventRefusal refusal;
      ToProto(answers[i].status(), &refusal);
      one = refusal.SerializeAsString();
      outcome = BytesTag(2);
    }
    out.Varint(BytesTag(1));
    out.Varint(VarintBytes(outcome) + VarintBytes(one.size()) + one.size());
    out.Varint(outcome);
    out.Bytes(one);
  }
  std::string message;
  message.reserve(submitted.size() + 24);
  ByteWriter response(&message);
  if (id != 0) {
    response.Varint(VarintTag(1));
    response.Varint(id);
  }
  response.Varint(BytesTag(2));
  response.Bytes(submitted);
  return message;
}

}  // namespace millstream::node
