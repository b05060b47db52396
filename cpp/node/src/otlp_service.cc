#include "otlp_service.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>
#include <vector>

#include "millstream/codec/byte_io.h"
#include "unary_call.h"
#include "wire_tag.h"

namespace millstream::node {
namespace {

constexpr const char* kExport = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
constexpr const char* kTenantMetadata = "x-scope-orgid";
constexpr size_t kReasonsTold = 3;

Result<TenantId> TenantOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto [begin, end] = metadata.equal_range(kTenantMetadata);
  if (begin == end) return engine::kDefaultTenant;
  if (std::next(begin) != end) return InvalidArgument("{} is there more than once", kTenantMetadata);
  const std::string_view text(begin->second.data(), begin->second.size());
  uint32_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) {
    return InvalidArgument("{} must be a tenant's number: a node does not know their names", kTenantMetadata);
  }
  return TenantId(number);
}

// An ExportMetricsServiceResponse: {1: {1: rejected_data_points, 2: error_message}}, or nothing.
std::string Answer(const engine::PushOutcome& outcome) {
  if (outcome.rejected == 0) return {};
  std::string message = fmt::format("{} data points refused", outcome.rejected);
  for (size_t i = 0; i < outcome.refusals.size() && i < kReasonsTold; ++i) {
    const engine::ItemRefusal& refusal = outcome.refusals[i];
    message += fmt::format("{} point {}: {}", i == 0 ? ":" : ";", refusal.item, refusal.reason.message());
  }
  std::string partial;
  codec::ByteWriter fields(&partial);
  fields.Varint(VarintTag(1));
  fields.Varint(outcome.rejected);
  fields.Varint(BytesTag(2));
  fields.Bytes(Utf8(message));
  std::string out;
  codec::ByteWriter whole(&out);
  whole.Varint(BytesTag(1));
  whole.Bytes(partial);
  return out;
}

}  // namespace

OtlpService::OtlpService(engine::Database& database, WorkPool& pool, engine::WriteOptions options)
    : database_(database), pool_(pool), options_(std::move(options)) {
  AddMethod(new grpc::internal::RpcServiceMethod(kExport, grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
  MarkMethodRawCallback(0, new grpc::internal::CallbackUnaryHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
                               [this](grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) { return Export(context, request, response); }));
}

Result<std::string> OtlpService::Store(TenantId tenant, const grpc::ByteBuffer& request) {
  std::vector<grpc::Slice> slices;
  if (!request.Dump(&slices).ok()) return InvalidArgument("the request cannot be unpacked");
  std::string body;
  for (const grpc::Slice& slice : slices) body.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  MS_ASSIGN_OR_RETURN(const engine::PushOutcome outcome,
                      database_.Push(tenant, {.format = "otlp", .body = body, .options = options_}));
  return Answer(outcome);
}

grpc::ServerUnaryReactor* OtlpService::Export(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                              grpc::ByteBuffer* response) {
  return UnaryCall::Run(pool_, [this, context, request, response](engine::QueryCancel& /*cancel*/) -> Status {
    MS_ASSIGN_OR_RETURN(const TenantId tenant, TenantOf(*context));
    Result<std::string> answer = Store(tenant, *request);
    if (!answer.ok()) {
      if (answer.status().code() != StatusCode::kResourceExhausted) return answer.status();
      return Status(StatusCode::kUnavailable, std::string(answer.status().message()));
    }
    grpc::Slice slice(*answer);
    *response = grpc::ByteBuffer(&slice, 1);
    return Status::Ok();
  });
}

}  // namespace millstream::node
