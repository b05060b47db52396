// TlsIdentity: who this node is to its callers, and whom it answers. The credentials of a gRPC listener.
//
// A caller must show a certificate of the client CA, and one of the names in it (DNS name, IP address or URI, such as
// SPIFFE's) must be on the list; a call of anybody else is answered PERMISSION_DENIED, whatever it asks for.
//
// The list is what the options say, and what their file of names says now: the names in use change with it, whatever is
// wrong with the other files. A file without a name, when the options say none either, changes nothing.
//
// The other three files are looked at again every kReloadIntervalMs. New ones count from the next connection on; open
// ones stay. What cannot be used changes nothing: it is told once on standard error, and Failing() says so until it is
// mended.
//
// TLS 1.3 only, everywhere.
//
// Other listeners than gRPC's take server_context() for each connection, and ask IsCallerAllowed after its handshake.
//
// Threads     Open and the destructor from one thread. gRPC asks for certificates and checks names on its own threads;
//             the files are read on one thread of this object. The getters from any thread.
// Ownership   What credentials() returned, and every server made with it, must be gone before this object is.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/env/env.h"
#include "millstream/node/config.h"

namespace millstream::node {

class TlsIdentity {
 public:
  static constexpr int64_t kReloadIntervalMs = 1000;

  // kInvalidArgument when the options are not complete, kFailedPrecondition when the files are no good.
  static Result<std::unique_ptr<TlsIdentity>> Open(const TlsOptions& options, const env::Env& env);
  ~TlsIdentity();

  std::shared_ptr<grpc::ServerCredentials> credentials() const;

  // TLS 1.3 with the certificate in use now; callers must show one of the client CA.
  Result<std::shared_ptr<SSL_CTX>> server_context();
  // Whether the other side of a finished handshake has one of the allowed names.
  bool IsCallerAllowed(SSL* connection) const;

  // Whether a caller with a certificate for these names is answered now.
  bool IsAnyAllowed(const std::vector<std::string>& names) const;

  // Looks at the files now; whether new ones are in use.
  bool Reload();

  int64_t expires_at_seconds() const;  // of the certificate in use, since 1970
  bool failing() const;
  uint64_t reloads() const;

 private:
  class Impl;
  explicit TlsIdentity(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether the list has the name. Nothing in a name of the list stands for anything else.
bool IsAllowed(const std::vector<std::string>& allowed, std::string_view name);

}  // namespace millstream::node
