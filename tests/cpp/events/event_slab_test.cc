// Events side by side in one piece of memory.
#include "event_slab.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "millstream/events/limits.h"

namespace millstream::events {
namespace {

std::string RecordOf(uint64_t number, size_t payload_bytes) {
  EventView event;
  event.taken_ms = static_cast<TimestampMs>(number);
  const std::string payload(payload_bytes, static_cast<char>('a' + number % 26));
  event.payload = payload;
  const std::string key = std::to_string(number);
  event.key = key;
  if (number % 3 == 0) event.headers = {{"h", "v"}};
  return EncodeEvent(event);
}

TEST(EventSlab, GivesEveryEventAsItsRecordSaysWhileOthersAreAdded) {
  std::shared_ptr<EventSlab> slab;
  std::vector<EventPtr> events;
  std::vector<std::string> records;
  for (uint64_t i = 0; i < 3000; ++i) {
    records.push_back(RecordOf(i, i % 701));
    auto event = EventSlab::Add(&slab, records.back());
    ASSERT_TRUE(event.ok()) << event.status().message();
    (*event)->SetPlace(7, 1, i);
    EXPECT_TRUE((*event)->is_in_slab());
    events.push_back(*std::move(event));
  }
  for (uint64_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]->record(), records[i]);
    EXPECT_EQ(events[i]->view(), *DecodeEvent(records[i]));
    EXPECT_EQ(events[i]->offset(), i);
  }
}

TEST(EventSlab, AnEventKeepsItsSlabWhenAllElseIsGone) {
  std::shared_ptr<EventSlab> slab;
  std::vector<EventPtr> events;
  for (uint64_t i = 0; i < 10; ++i) events.push_back(*EventSlab::Add(&slab, RecordOf(i, 10)));
  const std::weak_ptr<EventSlab> last = slab;
  const EventPtr kept = events.back();
  events.clear();
  slab = nullptr;
  EXPECT_FALSE(last.expired());
  EXPECT_EQ(kept->record(), RecordOf(9, 10));
}

TEST(EventSlab, ACopyStandsByItself) {
  std::shared_ptr<EventSlab> slab;
  std::shared_ptr<StoredEvent> event = *EventSlab::Add(&slab, RecordOf(3, 100));
  event->SetPlace(7, 2, 5);
  const std::string id = event->Id();
  const EventPtr copy = event->Copy();
  const std::weak_ptr<EventSlab> gone = slab;
  event = nullptr;
  slab = nullptr;
  EXPECT_TRUE(gone.expired());
  EXPECT_FALSE(copy->is_in_slab());
  EXPECT_EQ(copy->record(), RecordOf(3, 100));
  EXPECT_EQ(copy->view(), *DecodeEvent(RecordOf(3, 100)));
  EXPECT_EQ(copy->Id(), id);
}

TEST(EventSlab, ALongRecordDoesNotMakeALongSlab) {
  std::shared_ptr<EventSlab> slab;
  const auto event = EventSlab::Add(&slab, RecordOf(1, kEventBytesMax));
  ASSERT_TRUE(event.ok());
  EXPECT_FALSE((*event)->is_in_slab());
  EXPECT_EQ(slab, nullptr);
}

TEST(EventSlab, ARecordThatIsMalformedIsRefusedAndTheOthersStay) {
  std::shared_ptr<EventSlab> slab;
  const EventPtr before = *EventSlab::Add(&slab, RecordOf(1, 10));
  EXPECT_EQ(EventSlab::Add(&slab, "no event").status().code(), StatusCode::kDataLoss);
  const EventPtr behind = *EventSlab::Add(&slab, RecordOf(2, 10));
  EXPECT_EQ(before->record(), RecordOf(1, 10));
  EXPECT_EQ(behind->record(), RecordOf(2, 10));
}

TEST(EventSlab, WhatIsMadeIsWhatItsRecordSaysAndLiesBehindTheOneBefore) {
  std::shared_ptr<EventSlab> slab;
  std::vector<std::shared_ptr<StoredEvent>> events;
  size_t neighbours = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    const std::string record = RecordOf(i, i % 701);
    const EventView view = *DecodeEvent(record);
    const bool timestamp_given = i % 2 == 0;
    events.push_back(EventSlab::Make(&slab, view, timestamp_given, 3000 - i));
    const StoredEvent& made = *events.back();
    EXPECT_EQ(made.record(), EncodeEvent(view, timestamp_given));
    EXPECT_EQ(made.framed().substr(4), made.record());
    EXPECT_EQ(made.view(), *DecodeEvent(made.record()));
    EXPECT_FALSE(made.is_in_large_slab());
    if (i > 0) neighbours += events[i - 1]->framed().data() + events[i - 1]->framed().size() == made.framed().data();
  }
  EXPECT_GT(neighbours, 2500U);
  for (uint64_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i]->view().payload.size(), i % 701);
}

TEST(EventSlab, OneThatIsMadeAloneSharesWithNobodyAndALongOneHasASlabOfItsOwn) {
  std::shared_ptr<EventSlab> slab;
  const std::string payload(kEventBytesMax, 'x');
  EventView event;
  event.payload = "short";
  EXPECT_FALSE(EventSlab::Make(&slab, event, false, 1)->is_in_slab());
  event.payload = payload;
  slab = nullptr;
  const auto first = EventSlab::Make(&slab, event, false, 2);
  const auto second = EventSlab::Make(&slab, event, false, 1);
  EXPECT_FALSE(first->is_in_slab());
  EXPECT_EQ(first->view().payload, payload);
  EXPECT_EQ(second->view().payload, payload);
}

}  // namespace
}  // namespace millstream::events
