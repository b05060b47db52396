// Between the engine's events and the messages of millstream.v1.
#pragma once

#include <string>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/events/broker.h"
#include "millstream/v1/events.pb.h"

namespace millstream::node {

Result<events::TopicOptions> OptionsOf(const v1::CreateTopicRequest& request);
events::TopicChanges ChangesOf(const v1::AlterTopicRequest& request);
Result<events::SubscribeOptions> OptionsOf(const v1::SubscribeRequest& request);
// Borrows from the request.
Result<std::vector<events::PublishEvent>> EventsOf(const v1::SubmitEventRequest& request);

Status CommitOffsets(events::Broker& broker, const v1::CommitRequest& request);

void ToProto(const events::TopicInfo& topic, v1::Topic* out);
void ToProto(const events::TopicDescription& description, v1::DescribeTopicResponse* out);
void ToProto(const events::EventPlace& place, v1::EventPlace* out);
void ToProto(const std::string& topic, const events::StoredEvent& event, v1::Event* out);
void ToProto(const Status& status, v1::EventRefusal* out);
void ToProto(const v1::SubmitEventRequest& request, std::vector<Result<events::Published>> answers,
             v1::SubmitEventResponse* out);
void ToProto(const events::Polled& polled, v1::SubscribeResponse* out);

}  // namespace millstream::node
