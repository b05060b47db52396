// millstream.v1.EventService over the engine.
//
// Calls that answer at once and calls that may wait for an event run on pools of their own, so that readers who wait
// keep nobody from publishing.
#pragma once

#include <memory>

#include "event_stream.h"
#include "millstream/engine/database.h"
#include "millstream/env/clock.h"
#include "millstream/v1/events.grpc.pb.h"
#include "query_service.h"
#include "work_pool.h"

namespace millstream::node {

inline constexpr int kEventThreads = 4;
inline constexpr int kWaitingThreads = 32;
// More calls than that wait to be begun: refused.
inline constexpr size_t kQueuedEventCallsMax = 1024;

// A service of these methods.
template <template <class> class... Methods>
struct CallsOf {
  using Type = v1::EventService::Service;
};
template <template <class> class First, template <class> class... Rest>
struct CallsOf<First, Rest...> {
  using Type = First<typename CallsOf<Rest...>::Type>;
};

// v1::EventService::CallbackService, but that its streams carry bytes: see event_stream.h.
using EventCalls =
    CallsOf<v1::EventService::WithCallbackMethod_CreateTopic, v1::EventService::WithCallbackMethod_AlterTopic,
            v1::EventService::WithCallbackMethod_DeleteTopic, v1::EventService::WithCallbackMethod_DescribeTopic,
            v1::EventService::WithCallbackMethod_ListTopics, v1::EventService::WithCallbackMethod_SubmitEvent,
            v1::EventService::WithCallbackMethod_GetEvent, v1::EventService::WithCallbackMethod_Fetch,
            v1::EventService::WithCallbackMethod_Commit, v1::EventService::WithCallbackMethod_GroupOffsets,
            v1::EventService::WithCallbackMethod_ListGroups, v1::EventService::WithCallbackMethod_DeleteGroup,
            v1::EventService::WithCallbackMethod_DescribeGroup, v1::EventService::WithCallbackMethod_Nack,
            v1::EventService::WithCallbackMethod_QueryMetrics, v1::EventService::WithRawCallbackMethod_Subscribe,
            v1::EventService::WithRawCallbackMethod_StreamEvents>::Type;

class EventService final : public EventCalls {
 public:
  static Result<std::unique_ptr<EventService>> Start(engine::Database& database, QueryService& queries,
                                                     env::Executor& executor);

  // Ends the streams of callers of whose names `may` says no.
  void EndStreamsUnless(const std::function<bool(const StreamRegistry::Names&)>& may) {
    streams_.EndUnless(may, PermissionDenied("the caller's certificate has none of the allowed names any more"));
  }
  // Ends the streams that are open, so that the server can stop.
  void EndStreams() { streams_.EndAll(Unavailable("the node is stopping")); }

  grpc::ServerUnaryReactor* CreateTopic(grpc::CallbackServerContext* context, const v1::CreateTopicRequest* request,
                                        v1::Topic* response) override;
  grpc::ServerUnaryReactor* AlterTopic(grpc::CallbackServerContext* context, const v1::AlterTopicRequest* request,
                                       v1::Topic* response) override;
  grpc::ServerUnaryReactor* DeleteTopic(grpc::CallbackServerContext* context, const v1::DeleteTopicRequest* request,
                                        v1::DeleteTopicResponse* response) override;
  grpc::ServerUnaryReactor* DescribeTopic(grpc::CallbackServerContext* context, const v1::DescribeTopicRequest* request,
                                          v1::DescribeTopicResponse* response) override;
  grpc::ServerUnaryReactor* ListTopics(grpc::CallbackServerContext* context, const v1::ListTopicsRequest* request,
                                       v1::ListTopicsResponse* response) override;
  grpc::ServerUnaryReactor* SubmitEvent(grpc::CallbackServerContext* context, const v1::SubmitEventRequest* request,
                                        v1::SubmitEventResponse* response) override;
  grpc::ServerUnaryReactor* GetEvent(grpc::CallbackServerContext* context, const v1::GetEventRequest* request,
                                     v1::EventPlace* response) override;
  grpc::ServerUnaryReactor* Fetch(grpc::CallbackServerContext* context, const v1::FetchRequest* request,
                                  v1::FetchResponse* response) override;
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context, const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override;
  grpc::ServerUnaryReactor* GroupOffsets(grpc::CallbackServerContext* context, const v1::GroupOffsetsRequest* request,
                                         v1::GroupOffsetsResponse* response) override;
  grpc::ServerUnaryReactor* ListGroups(grpc::CallbackServerContext* context, const v1::ListGroupsRequest* request,
                                       v1::ListGroupsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteGroup(grpc::CallbackServerContext* context, const v1::DeleteGroupRequest* request,
                                        v1::DeleteGroupResponse* response) override;
  grpc::ServerUnaryReactor* DescribeGroup(grpc::CallbackServerContext* context, const v1::DescribeGroupRequest* request,
                                          v1::DescribeGroupResponse* response) override;
  grpc::ServerUnaryReactor* Nack(grpc::CallbackServerContext* context, const v1::NackRequest* request,
                                 v1::NackResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Subscribe(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamEvents(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* QueryMetrics(grpc::CallbackServerContext* context, const v1::QueryRequest* request,
                                         v1::QueryResponse* response) override {
    return queries_.Query(context, request, response);
  }

 private:
  EventService(engine::Database& database, QueryService& queries) : database_(database), queries_(queries) {}

  engine::Database& database_;
  QueryService& queries_;
  StreamRegistry streams_;
  std::unique_ptr<WorkPool> calls_;
  std::unique_ptr<WorkPool> waiting_;
  std::unique_ptr<WorkPool> feeds_;
};

}  // namespace millstream::node
