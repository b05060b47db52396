#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "event_convert.h"
#include "millstream/base/check.h"
#include "millstream/codec/span_writer.h"
#include "submit_wire.h"
#include "wire_tag.h"

namespace millstream::node {
namespace {

using codec::SpanWriter;
using codec::VarintBytes;

// Every field's tag here is one byte.
size_t NumberBytes(uint64_t value) {
  return value == 0 ? 0 : 1 + VarintBytes(value);
}
size_t TextBytes(size_t bytes) {
  return 1 + VarintBytes(bytes) + bytes;
}

// What happened to one event: a place, or a refusal as protobuf writes it.
class OneAnswer {
 public:
  OneAnswer(std::string_view topic, const Result<events::Published>& answer) : topic_(topic) {
    if (answer.ok()) {
      place_ = &*answer;
      const size_t id_bytes = place_->client_id.empty() ? events::kEventIdBytes : place_->client_id.size();
      bytes_ = TextBytes(id_bytes) + TextBytes(topic_.size()) + NumberBytes(place_->partition) +
               NumberBytes(place_->offset) + NumberBytes(static_cast<uint64_t>(ToProto(place_->status))) +
               NumberBytes(static_cast<uint64_t>(place_->timestamp));
    } else {
      v1::EventRefusal refusal;
      ToProto(answer.status(), &refusal);
      refusal_ = refusal.SerializeAsString();
      bytes_ = refusal_.size();
    }
  }

  // Of the field of the batch that it is.
  size_t bytes() const { return TextBytes(TextBytes(bytes_)); }
  void Write(SpanWriter& out) const {
    out.Varint(BytesTag(1));
    out.Varint(TextBytes(bytes_));
    out.Varint(BytesTag(place_ != nullptr ? 1 : 2));
    if (place_ == nullptr) {
      (void)out.Bytes(refusal_);
      return;
    }
    out.Varint(bytes_);
    events::EventIdText id;
    out.Varint(BytesTag(1));
    (void)out.Bytes(place_->Id(&id));
    out.Varint(BytesTag(2));
    (void)out.Bytes(topic_);
    const auto number = [&out](uint64_t field, uint64_t value) {
      if (value == 0) return;
      out.Varint(VarintTag(field));
      out.Varint(value);
    };
    number(3, place_->partition);
    number(4, place_->offset);
    number(5, static_cast<uint64_t>(ToProto(place_->status)));
    number(6, static_cast<uint64_t>(place_->timestamp));
  }

 private:
  std::string_view topic_;
  const events::Published* place_ = nullptr;
  std::string refusal_;
  size_t bytes_ = 0;
};

}  // namespace

std::string WriteSubmitted(uint64_t id, std::span<const events::PublishEvent> events,
                           std::span<const Result<events::Published>> answers) {
  std::vector<OneAnswer> parts;
  parts.reserve(answers.size());
  size_t submitted = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    submitted += parts.emplace_back(events[i].topic, answers[i]).bytes();
  }
  std::string message(NumberBytes(id) + TextBytes(submitted), '\0');
  SpanWriter out(message);
  if (id != 0) {
    out.Varint(VarintTag(1));
    out.Varint(id);
  }
  out.Varint(BytesTag(2));
  out.Varint(submitted);
  for (const OneAnswer& part : parts) part.Write(out);
  MS_CHECK(out.is_full());
  return message;
}

}  // namespace millstream::node
