// millstream.v1.StorageQueryService over the engine.
#pragma once

#include "millstream/engine/database.h"
#include "millstream/env/clock.h"
#include "millstream/v1/query.grpc.pb.h"
#include "work_pool.h"

namespace millstream::node {

class QueryService final : public v1::StorageQueryService::CallbackService {
 public:
  QueryService(const engine::Database& database, const env::Clock& clock, WorkPool& pool)
      : database_(database), clock_(clock), pool_(pool) {}

  grpc::ServerUnaryReactor* Query(grpc::CallbackServerContext* context, const v1::QueryRequest* request,
                                  v1::QueryResponse* response) override;
  grpc::ServerUnaryReactor* Series(grpc::CallbackServerContext* context, const v1::LabelRequest* request,
                                   v1::SeriesResponse* response) override;
  grpc::ServerUnaryReactor* LabelNames(grpc::CallbackServerContext* context, const v1::LabelRequest* request,
                                       v1::LabelNamesResponse* response) override;
  grpc::ServerUnaryReactor* LabelValues(grpc::CallbackServerContext* context, const v1::LabelValuesRequest* request,
                                        v1::LabelValuesResponse* response) override;
  grpc::ServerUnaryReactor* QueryExemplars(grpc::CallbackServerContext* context,
                                           const v1::QueryExemplarsRequest* request,
                                           v1::QueryExemplarsResponse* response) override;
  grpc::ServerUnaryReactor* RemoteRead(grpc::CallbackServerContext* context, const v1::RemoteReadRequest* request,
                                       v1::RemoteReadResponse* response) override;
  grpc::ServerUnaryReactor* Metadata(grpc::CallbackServerContext* context, const v1::MetadataRequest* request,
                                     v1::MetadataResponse* response) override;
  grpc::ServerUnaryReactor* TsdbStatus(grpc::CallbackServerContext* context, const v1::TsdbStatusRequest* request,
                                       v1::TsdbStatusResponse* response) override;
  grpc::ServerUnaryReactor* Stats(grpc::CallbackServerContext* context, const v1::StatsRequest* request,
                                  v1::StatsResponse* response) override;
  grpc::ServerUnaryReactor* FormatQuery(grpc::CallbackServerContext* context, const v1::FormatQueryRequest* request,
                                        v1::FormatQueryResponse* response) override;
  grpc::ServerUnaryReactor* ParseQuery(grpc::CallbackServerContext* context, const v1::ParseQueryRequest* request,
                                       v1::ParseQueryResponse* response) override;

 private:
  // What is left of the call's deadline; 0 when it has none.
  int64_t TimeoutMs(const grpc::CallbackServerContext& context) const;
  Result<promql::QueryResult> Evaluate(const v1::QueryRequest& request, int64_t timeout_ms,
                                       engine::QueryCancel& cancel) const;

  const engine::Database& database_;
  const env::Clock& clock_;
  WorkPool& pool_;
};

}  // namespace millstream::node
