// millstream.v1.IngestService over the engine.
#pragma once

#include "millstream/engine/database.h"
#include "millstream/v1/ingest.grpc.pb.h"
#include "work_pool.h"

namespace millstream::node {

class IngestService final : public v1::IngestService::CallbackService {
 public:
  IngestService(engine::Database& database, WorkPool& pool) : database_(database), pool_(pool) {}

  grpc::ServerUnaryReactor* Push(grpc::CallbackServerContext* context, const v1::PushRequest* request,
                                 v1::PushResponse* response) override;

 private:
  Result<engine::PushOutcome> Store(const v1::PushRequest& request);

  engine::Database& database_;
  WorkPool& pool_;
};

}  // namespace millstream::node
