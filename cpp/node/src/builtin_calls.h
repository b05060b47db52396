// BuiltinCalls: the open calls of what gRPC serves by itself, health checks and reflection, so that they can be ended.
//
// Threads     gRPC's tell of calls; EndUnless from any thread.
// Ownership   It must outlive every server that was built with its factory. Of each open call it holds a reference.
#pragma once

#include <grpc/grpc.h>
#include <grpcpp/support/server_interceptor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/status.h"

namespace millstream::node {

class BuiltinCalls {
 public:
  // The names in a caller's certificate.
  using Names = std::vector<std::string>;

  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeFactory();
  // Ends those of callers of whom `may` says no.
  void EndUnless(const std::function<bool(const Names&)>& may, const Status& status) EXCLUDES(mutex_);

 private:
  class Watcher;
  class Factory;
  struct Unref {
    void operator()(grpc_call* call) const { grpc_call_unref(call); }
  };
  using CallRef = std::unique_ptr<grpc_call, Unref>;
  struct Open {
    CallRef call;
    Names names;
  };

  static CallRef Ref(grpc_call* call);
  void Add(const Watcher* watcher, grpc_call* call) EXCLUDES(mutex_);
  void Remove(const Watcher* watcher) EXCLUDES(mutex_);

  Mutex mutex_;
  std::map<const Watcher*, Open> calls_ GUARDED_BY(mutex_);
};

}  // namespace millstream::node
