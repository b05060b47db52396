#include "ingest_service.h"

#include "proto_convert.h"
#include "unary_call.h"

namespace millstream::node {

Result<engine::PushOutcome> IngestService::Store(const v1::PushRequest& request) {
  const TenantId tenant(request.tenant());
  const TimestampMs timestamp = request.has_default_timestamp_ms() ? request.default_timestamp_ms() : database_.Now();
  switch (request.body_case()) {
    case v1::PushRequest::kRemoteWrite:
      return database_.PushRemoteWrite(tenant, request.remote_write());
    case v1::PushRequest::kText:
      return database_.PushText(tenant, request.text(), engine::TextFormat::kPrometheus, timestamp);
    case v1::PushRequest::kOpenMetrics:
      return database_.PushText(tenant, request.open_metrics(), engine::TextFormat::kOpenMetrics, timestamp);
    case v1::PushRequest::kJson:
      return database_.PushJson(tenant, request.json(), timestamp);
    case v1::PushRequest::BODY_NOT_SET:
      return InvalidArgument("the request has no body");
  }
  return InvalidArgument("the request has a body that this node does not know");
}

grpc::ServerUnaryReactor* IngestService::Push(grpc::CallbackServerContext* /*context*/, const v1::PushRequest* request,
                                              v1::PushResponse* response) {
  return UnaryCall::Run(pool_, [this, request, response](engine::QueryCancel& /*cancel*/) -> Status {
    MS_ASSIGN_OR_RETURN(const engine::PushOutcome outcome, Store(*request));
    ToProto(outcome, response);
    return Status::Ok();
  });
}

}  // namespace millstream::node
