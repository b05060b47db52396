#include "builtin_calls.h"

#include <grpc/grpc_security.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/server_context.h>

#include <string_view>
#include <utility>

namespace millstream::node {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

// Lives as long as its call.
class BuiltinCalls::Watcher final : public Interceptor {
 public:
  Watcher(BuiltinCalls& calls, ServerRpcInfo& info) : calls_(calls), info_(info) {}
  ~Watcher() override { calls_.Remove(this); }

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      calls_.Add(this, info_.server_context()->c_call());
    }
    methods->Proceed();
  }

 private:
  BuiltinCalls& calls_;
  ServerRpcInfo& info_;
};

class BuiltinCalls::Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(BuiltinCalls& calls) : calls_(calls) {}

  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return std::string_view(info->method()).starts_with("/grpc.") ? new Watcher(calls_, *info) : nullptr;
  }

 private:
  BuiltinCalls& calls_;
};

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> BuiltinCalls::MakeFactory() {
  return std::make_unique<Factory>(*this);
}

BuiltinCalls::CallRef BuiltinCalls::Ref(grpc_call* call) {
  grpc_call_ref(call);
  return CallRef(call);
}

void BuiltinCalls::Add(const Watcher* watcher, grpc_call* call) {
  Open open{.call = Ref(call), .names = {}};
  grpc_auth_context* const context = grpc_call_auth_context(call);
  grpc_auth_property_iterator names = grpc_auth_context_find_properties_by_name(context, GRPC_X509_SAN_PROPERTY_NAME);
  while (const grpc_auth_property* name = grpc_auth_property_iterator_next(&names)) {
    open.names.emplace_back(name->value, name->value_length);
  }
  grpc_auth_context_release(context);
  MutexLock lock(mutex_);
  calls_.insert_or_assign(watcher, std::move(open));
}

void BuiltinCalls::Remove(const Watcher* watcher) {
  Open gone;  // let go of without the lock
  MutexLock lock(mutex_);
  const auto found = calls_.find(watcher);
  if (found == calls_.end()) return;
  gone = std::move(found->second);
  calls_.erase(found);
}

void BuiltinCalls::EndUnless(const std::function<bool(const Names&)>& may, const Status& status) {
  std::vector<CallRef> ending;
  {
    MutexLock lock(mutex_);
    for (const auto& [watcher, open] : calls_) {
      if (!may(open.names)) ending.push_back(Ref(open.call.get()));
    }
  }
  // Without the lock: a call may be over, and its watcher gone, before this returns.
  const std::string reason(status.message());
  for (const CallRef& call : ending) {
    grpc_call_cancel_with_status(call.get(), static_cast<grpc_status_code>(status.code()), reason.c_str(), nullptr);
  }
}

}  // namespace millstream::node
