#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "millstream/node/server.h"
#include "millstream/promql/parser.h"

namespace {

using millstream::Result;
using millstream::Status;
using millstream::node::NodeConfig;
using millstream::node::NodeServer;

constexpr int kWorkFailed = 1;
constexpr int kWrongUsage = 2;

// An option that reads a duration such as 15d into milliseconds.
void AddDuration(CLI::App& app, const std::string& name, int64_t* ms, const std::string& help) {
  app.add_option_function<std::string>(
         name, [ms](const std::string& text) { *ms = millstream::promql::ParseDuration(text).value(); }, help)
      ->check([](const std::string& text) {
        const Result<int64_t> parsed = millstream::promql::ParseDuration(text);
        return parsed.ok() ? std::string() : std::string(parsed.status().message());
      });
}

// As it was given; the port may have been picked.
std::string_view HostOf(std::string_view address) {
  const std::string_view host = address.substr(0, address.rfind(':'));
  return host == "localhost" ? "127.0.0.1" : host;
}

}  // namespace

int main(int argc, char** argv) {
  // Before any thread starts: all inherit the mask, and only the wait below takes the signals.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGINT);
  sigaddset(&stop_signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);

  NodeConfig config;
  bool pin_threads = false;
  std::string durability = "process";
  CLI::App app("millstreamd: one Millstream node. Example: millstreamd --data /var/lib/millstream");
  app.set_version_flag("--version", MILLSTREAM_VERSION);
  app.set_config("--config", "", "file of these settings, as name=value lines");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.add_option("--data", config.data, "folder of the data; made when absent")->capture_default_str();
  app.add_option("--grpc", config.grpc, "HOST:PORT of gRPC; port 0 picks a free one")->capture_default_str();
  app.add_option("--health", config.health, "HOST:PORT of /health and /metrics; empty is off")->capture_default_str();
  app.add_option("--native", config.native.address,
                 "HOST:PORT of native frames over TCP and UDP; without it they are off");
  AddDuration(app, "--native-write-timeout", &config.native.write_timeout_ms,
              "after which a client of native frames that reads no answers is cut off, as 1m");
  app.add_option("--tls-cert", config.tls.cert_file,
                 "PEM file of this node's certificate; with it, and only then, gRPC "
                 "may listen beyond loopback");
  app.add_option("--tls-key", config.tls.key_file, "PEM file of its key");
  app.add_option("--tls-client-ca", config.tls.client_ca_file, "PEM file of the CA that signs callers' certificates");
  app.add_option("--tls-allowed-names", config.tls.allowed_names,
                 "names, addresses or URIs (such as SPIFFE's) for one of which a caller's certificate must be, as A,B")
      ->delimiter(',');
  app.add_option("--tls-allowed-names-file", config.tls.allowed_names_file,
                 "file of more such names, one a line, which is looked at again every second: who is not on it any "
                 "more has what is open ended");
  app.add_option("--partitions", config.database.partitions, "partitions of a new folder; 0 is one per CPU")
      ->check(CLI::Range(0, millstream::engine::kPartitionsMax));
  app.add_option("--durability", durability,
                 "what an acknowledged write survives: the process's death, or the machine's")
      ->check(CLI::IsMember({"process", "fsync"}))
      ->capture_default_str();
  AddDuration(app, "--retention", &config.database.retention_ms, "drop samples older than this, as 15d; 0 keeps all");
  AddDuration(app, "--out-of-order-window", &config.database.out_of_order_window_ms,
              "how late a sample may come, as 1d");
  AddDuration(app, "--future-window", &config.database.future_window_ms,
              "how far ahead of this machine's clock a sample may be, as 10m, which it is without this; 0 takes any");
  app.add_option("--memory-limit-bytes", config.database.memory_limit_bytes, "refuse writes above it; 0 is none")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--exemplar-bytes", config.database.exemplar_bytes_max,
                 "memory for a tenant's exemplars; 0 keeps none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--max-series", config.database.tenant_series.most,
                 "series that one tenant may have on this node, whoever writes: new ones beyond it are refused; 0 is "
                 "any number")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--max-new-series-per-second", config.database.tenant_series.new_per_second,
                 "how many series of one tenant may be new in a second, likewise; 0 is any number")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--pin-threads", pin_threads, "pin each partition's thread to a CPU");
  app.add_option("--enable-feature", config.database.enabled_features, "a PromQL feature by Prometheus's name");
  std::vector<std::string> otlp_options;
  app.add_option("--otlp-option", otlp_options,
                 "how OTLP metrics that come by gRPC become series, as NAME=VALUE with a name of the gateway's otlp "
                 "settings; may be repeated")
      ->check([](const std::string& text) {
        return text.find('=') == std::string::npos ? "\"" + text + "\" is not NAME=VALUE" : std::string();
      });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  config.database.pin_threads = pin_threads;
  if (durability == "fsync") config.database.durability = millstream::storage::Durability::kFsync;

  for (const std::string& option : otlp_options) {
    const size_t equals = option.find('=');
    config.otlp[option.substr(0, equals)] = option.substr(equals + 1);
  }

  // Batches and frames of a few hundred KiB come and go all the time. By itself glibc gives such memory back to the
  // kernel each time and gets it again page by page, cleared, which costs more than what is done with it.
  (void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
  (void)mallopt(M_TRIM_THRESHOLD, 32 << 20);

  Result<std::unique_ptr<NodeServer>> server = NodeServer::Start(config);
  if (!server.ok()) {
    fmt::print(stderr, "millstreamd: {}\n", server.status().ToString());
    return kWorkFailed;
  }
  fmt::print("millstreamd ready: grpc {}:{}", HostOf(config.grpc), (*server)->grpc_port());
  if ((*server)->health_port() != 0) fmt::print(", health http://127.0.0.1:{}", (*server)->health_port());
  if ((*server)->native_port() != 0)
    fmt::print(", native {}:{}", HostOf(config.native.address), (*server)->native_port());
  fmt::print("\n");
  std::fflush(stdout);

  int signal = 0;
  sigwait(&stop_signals, &signal);
  if (const Status status = (*server)->Stop(); !status.ok()) {
    fmt::print(stderr, "millstreamd: {}\n", status.ToString());
    return kWorkFailed;
  }
  return 0;
}
