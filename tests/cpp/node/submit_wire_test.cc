// What StreamEvents reads and writes by hand is what protobuf reads and writes.
#include "submit_wire.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "event_convert.h"
#include "millstream/events/limits.h"

namespace millstream::node {
namespace {

class Made {
 public:
  explicit Made(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t end) { return random_() % end; }
  bool Perhaps() { return Below(2) == 0; }
  uint64_t Number() { return random_() >> Below(64); }
  std::string Bytes() {
    std::string out(Below(300), '\0');
    for (char& byte : out) byte = static_cast<char>(random_());
    return out;
  }
  std::string Text() {
    return Perhaps() ? "" : Perhaps() ? "orders" : "gr\xc3\xbc\xc3\x9f-" + std::to_string(Number());
  }

  void Fill(v1::Event* event) {
    event->set_topic(Text());
    if (Perhaps()) event->set_payload(Bytes());
    event->set_is_json(Perhaps());
    if (Perhaps()) event->set_key(Bytes());
    for (uint64_t i = Below(4); i > 0; --i) {
      v1::Header* header = event->add_headers();
      header->set_name(Text());
      header->set_value(Bytes());
    }
    if (Perhaps()) event->set_timestamp_ms(static_cast<int64_t>(Number()));
    if (Perhaps()) event->set_id(Text());
    if (Perhaps()) event->set_partition(static_cast<uint32_t>(Number()));
    if (Perhaps()) event->set_offset(Number());
    if (Perhaps()) event->set_attempt(static_cast<uint32_t>(Number()));
    if (!Perhaps()) return;
    event->mutable_producer()->set_id(Text());
    event->mutable_producer()->set_epoch(static_cast<uint32_t>(Number()));
    event->mutable_producer()->set_sequence(Number());
  }

  v1::StreamEventsRequest Request() {
    v1::StreamEventsRequest request;
    request.set_id(Number());
    request.mutable_submit()->set_tenant(static_cast<uint32_t>(Number()));
    for (uint64_t i = Below(6); i > 0; --i) Fill(request.mutable_submit()->add_events());
    return request;
  }

 private:
  std::mt19937_64 random_;
};

void ExpectSame(const std::vector<events::PublishEvent>& read, const std::vector<events::PublishEvent>& wanted) {
  ASSERT_EQ(read.size(), wanted.size());
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].topic, wanted[i].topic);
    EXPECT_EQ(read[i].event, wanted[i].event);
    EXPECT_EQ(read[i].has_timestamp, wanted[i].has_timestamp);
    EXPECT_EQ(read[i].partition, wanted[i].partition);
  }
}

// Whatever is read is what protobuf reads; says whether it was.
bool ReadsAsProtobuf(const std::string& bytes) {
  const auto read = ReadSubmit(bytes);
  if (!read.has_value()) return false;
  v1::StreamEventsRequest request;
  EXPECT_TRUE(request.ParseFromString(bytes));
  EXPECT_TRUE(request.has_submit());
  EXPECT_EQ(read->id, request.id());
  EXPECT_EQ(read->tenant, request.submit().tenant());
  const auto wanted = EventsOf(request.submit());
  EXPECT_TRUE(wanted.ok());
  if (wanted.ok()) ExpectSame(read->events, *wanted);
  return true;
}

TEST(SubmitWire, ReadsWhatProtobufWrites) {
  Made made(1);
  for (int round = 0; round < 500; ++round) {
    EXPECT_TRUE(ReadsAsProtobuf(made.Request().SerializeAsString())) << "round " << round;
  }
}

TEST(SubmitWire, WhatIsDamagedIsReadAsProtobufReadsItOrNotAtAll) {
  Made made(2);
  size_t read = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = made.Request().SerializeAsString();
    if (made.Perhaps()) bytes.resize(made.Below(bytes.size() + 1));
    for (uint64_t i = made.Below(4); i > 0 && !bytes.empty(); --i) {
      bytes[made.Below(bytes.size())] = static_cast<char>(made.Number());
    }
    read += ReadsAsProtobuf(bytes) ? 1 : 0;
  }
  EXPECT_GT(read, 0U);
  EXPECT_LT(read, 3000U);
}

TEST(SubmitWire, WhatNoClientOfOursWritesIsLeftToProtobuf) {
  v1::StreamEventsRequest request;
  EXPECT_FALSE(ReadSubmit("").has_value());
  request.mutable_commit()->set_group("g");
  EXPECT_FALSE(ReadSubmit(request.SerializeAsString()).has_value());
  request.mutable_submit()->set_series_max(7);
  EXPECT_FALSE(ReadSubmit(request.SerializeAsString()).has_value());
  // Twice the same: protobuf joins them.
  request.mutable_submit()->clear_series_max();
  request.mutable_submit()->add_events()->set_topic("a");
  const std::string once = request.SerializeAsString();
  EXPECT_TRUE(ReadSubmit(once).has_value());
  EXPECT_FALSE(ReadSubmit(once + once).has_value());
  // Names are UTF-8, and protobuf refuses a message where one is not.
  std::string broken = once;
  broken.back() = '\xff';
  EXPECT_FALSE(ReadSubmit(broken).has_value());
  for (size_t i = 0; i < events::kPublishEventsMax; ++i) (void)request.mutable_submit()->add_events();
  EXPECT_FALSE(ReadSubmit(request.SerializeAsString()).has_value());
}

TEST(SubmitWire, WritesWhatProtobufWrites) {
  Made made(3);
  for (int round = 0; round < 500; ++round) {
    v1::StreamEventsRequest request = made.Request();
    for (v1::Event& event : *request.mutable_submit()->mutable_events()) event.set_topic("orders");
    const auto events = EventsOf(request.submit());
    ASSERT_TRUE(events.ok());
    std::vector<Result<events::Published>> answers;
    for (size_t i = 0; i < events->size(); ++i) {
      if (made.Below(4) == 0) {
        answers.emplace_back(NotFound("topic {} is not there", made.Number()));
        continue;
      }
      answers.emplace_back(
          events::Published{.client_id = made.Perhaps() ? "" : "id" + std::to_string(made.Number()),
                            .topic = static_cast<uint32_t>(made.Number()),
                            .partition = static_cast<uint32_t>(made.Below(3)),
                            .offset = made.Perhaps() ? 0 : made.Number(),
                            .status = made.Perhaps() ? events::EventStatus::kDurable : events::EventStatus::kAccepted,
                            .timestamp = static_cast<TimestampMs>(made.Number()),
                            .taken_ms = static_cast<TimestampMs>(made.Number() & 0xFFFF'FFFF'FFFF)});
    }
    v1::StreamEventsResponse wanted;
    wanted.set_id(request.id());
    ToProto(request.submit(), answers, wanted.mutable_submitted());
    EXPECT_EQ(WriteSubmitted(request.id(), *events, answers), wanted.SerializeAsString());
  }
}

}  // namespace
}  // namespace millstream::node
