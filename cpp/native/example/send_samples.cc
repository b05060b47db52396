// Sends samples of two series over native frames and waits until the server has acknowledged them.
//
//   native_example HOST PORT FIRST_MS STEPS [KEY [TENANT [CA_FILE CERT_FILE KEY_FILE SERVER_NAME]]]
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "millstream/native/client.h"

namespace {

using millstream::Result;
using millstream::Status;
using millstream::TimestampMs;
using millstream::model::Label;
using millstream::native::Client;
using millstream::native::ClientOptions;
using millstream::native::Totals;

Status Send(const ClientOptions& options, TimestampMs first, int steps) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  const std::array<Label, 2> zero{{{"__name__", "cpp_client_load"}, {"core", "0"}}};
  const std::array<Label, 2> one{{{"__name__", "cpp_client_load"}, {"core", "1"}}};
  const std::array<uint32_t, 2> refs{client->Series(zero), client->Series(one)};
  for (int step = 0; step < steps; ++step) {
    const std::array<TimestampMs, 2> timestamps{first + step, first + step};
    const std::array<double, 2> values{0.5 * step, 2.0 * step};
    MS_RETURN_IF_ERROR(client->Write(refs, timestamps, values));
  }
  MS_ASSIGN_OR_RETURN(const Totals totals, client->Flush());
  std::printf("%llu samples acknowledged, %llu refused\n", static_cast<unsigned long long>(totals.samples),
              static_cast<unsigned long long>(totals.rejected));
  return Status::Ok();
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<size_t>(argc));
  if (arguments.size() < 5 || (arguments.size() > 7 && arguments.size() != 11)) {
    std::fprintf(stderr, "usage: %s HOST PORT FIRST_MS STEPS [KEY [TENANT [CA_FILE CERT_FILE KEY_FILE SERVER_NAME]]]\n",
                 arguments[0]);
    return 2;
  }
  ClientOptions options;
  options.host = arguments[1];
  options.port = static_cast<uint16_t>(std::strtoul(arguments[2], nullptr, 10));
  if (arguments.size() > 5) options.key = arguments[5];
  if (arguments.size() > 6) options.tenant = arguments[6];
  if (arguments.size() == 11) {
    options.tls = {
        .ca_file = arguments[7], .cert_file = arguments[8], .key_file = arguments[9], .server_name = arguments[10]};
  }
  const Status status = Send(options, std::strtoll(arguments[3], nullptr, 10), std::atoi(arguments[4]));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
