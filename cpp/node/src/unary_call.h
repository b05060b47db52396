// UnaryCall: one gRPC call that runs on a pool, off gRPC's own threads.
//
// Threads     gRPC calls OnCancel and OnDone on its threads; the work runs on one of the pool's.
// Ownership   Deletes itself when gRPC is done with it, which is after the work has finished the call.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <utility>

#include "millstream/engine/database.h"
#include "proto_convert.h"
#include "work_pool.h"

namespace millstream::node {

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // `work` fills the response and tells the outcome; its argument is cancelled when the caller goes away.
  using Work = std::function<Status(engine::QueryCancel& cancel)>;

  // What a service method returns to gRPC.
  static grpc::ServerUnaryReactor* Run(WorkPool& pool, Work work) {
    auto* call = new UnaryCall;
    const Status submitted = pool.Submit([call, work = std::move(work)] { call->Finish(ToGrpc(work(call->cancel_))); });
    if (!submitted.ok()) call->Finish(ToGrpc(submitted));
    return call;
  }

 private:
  void OnCancel() override { cancel_.Cancel(); }
  void OnDone() override { delete this; }

  engine::QueryCancel cancel_;
};

}  // namespace millstream::node
