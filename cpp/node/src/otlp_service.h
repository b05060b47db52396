// OTLP metrics over gRPC: opentelemetry.proto.collector.metrics.v1.MetricsService, method Export.
//
// The request's bytes go to the engine as they are, so nothing of OpenTelemetry's definitions is compiled in. The
// metadata x-scope-orgid, when it is there, is the tenant's number, for which callers are trusted as they are in
// PushRequest.tenant.
// Errors      What can be tried again (a full disk, a full queue) is UNAVAILABLE: exporters drop RESOURCE_EXHAUSTED.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/impl/service_type.h>

#include <string>

#include "millstream/base/result.h"
#include "millstream/engine/database.h"
#include "work_pool.h"

namespace millstream::node {

class OtlpService final : public grpc::Service {
 public:
  // `options` are those of the engine's format otlp.
  OtlpService(engine::Database& database, WorkPool& pool, engine::WriteOptions options);

 private:
  grpc::ServerUnaryReactor* Export(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response);
  // The answer's bytes.
  Result<std::string> Store(TenantId tenant, const grpc::ByteBuffer& request);

  engine::Database& database_;
  WorkPool& pool_;
  const engine::WriteOptions options_;
};

}  // namespace millstream::node
