#include "ingest_service.h"

#include "proto_convert.h"
#include "unary_call.h"

namespace millstream::node {

Result<engine::PushOutcome> IngestService::Store(const v1::PushRequest& request) {
  engine::WriteRequest write{
      .format = request.format(),
      .body = request.body(),
      .default_timestamp = request.has_default_timestamp_ms() ? request.default_timestamp_ms() : database_.Now()};
  MS_ASSIGN_OR_RETURN(write.filter, engine::MakeFilter({request.allow().begin(), request.allow().end()},
                                                       {request.deny().begin(), request.deny().end()}));
  write.series = {.most = request.series_max(), .new_per_second = request.new_series_per_second()};
  write.options.insert(request.options().begin(), request.options().end());
  return database_.Push(TenantId(request.tenant()), write);
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
