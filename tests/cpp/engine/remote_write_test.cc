// Remote write 2.0 and remote read through the whole engine.
#include <gtest/gtest.h>

#include <snappy.h>

#include <string>
#include <vector>

#include "compress.h"
#include "millstream/engine/database.h"
#include "protobuf_writer.h"

namespace millstream::engine {
namespace {

using wire::AppendVarint;
using wire::BytesField;
using wire::Compress;
using wire::DoubleField;
using wire::VarintField;

std::string Refs(const std::vector<uint64_t>& refs) {
  std::string packed;
  for (const uint64_t ref : refs) AppendVarint(ref, &packed);
  return BytesField(1, packed);
}

std::string Sample(TimestampMs timestamp, double value, TimestampMs start) {
  return BytesField(2, DoubleField(1, value) + VarintField(2, static_cast<uint64_t>(timestamp)) +
                           VarintField(3, static_cast<uint64_t>(start)));
}

std::string Histogram(TimestampMs timestamp) {
  std::string deltas;
  AppendVarint(wire::ZigZagEncode(3), &deltas);
  return BytesField(3, VarintField(1, 3) + DoubleField(3, 2) + BytesField(11, VarintField(2, 1)) +
                           BytesField(12, deltas) + VarintField(15, static_cast<uint64_t>(timestamp)));
}

// One series named m.
std::string Request(const std::string& samples) {
  std::string symbols;
  for (const std::string_view symbol : {"", "__name__", "m", "trace_id", "t1"}) symbols += BytesField(4, symbol);
  return Compress(symbols + BytesField(5, Refs({1, 2}) + samples));
}

std::unique_ptr<Database> MemoryWith(std::vector<std::string> features = {}) {
  DatabaseOptions options;
  options.partitions = 2;
  options.enabled_features = std::move(features);
  return Database::Open(std::string(kMemoryPath), options).value();
}

PushOutcome PushRemoteWrite(Database& db, const std::string& body, TenantId tenant = kDefaultTenant) {
  const auto outcome = db.Push(tenant, {.format = "remote_write_2", .body = body});
  EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
  return outcome.ok() ? *outcome : PushOutcome();
}

std::string Asked(const Database& db, const std::string& expression, TimestampMs time) {
  const auto result = db.Query(kDefaultTenant, expression, time, {});
  EXPECT_TRUE(result.ok()) << result.status().ToString();
  return result.ok() ? ResultJson(*result) : std::string();
}

std::string ReadM(std::string_view types) {
  return Compress(BytesField(1, VarintField(1, 0) + VarintField(2, 1'000'000) +
                                    BytesField(3, BytesField(2, "__name__") + BytesField(3, "m"))) +
                  BytesField(2, types));
}

TEST(RemoteWrite2, StartTimestampsReachTheEvaluator) {
  // The counter began anew between the two samples, and grew beyond its old value before it was seen again.
  const std::string body = Request(Sample(60'000, 10, 1000) + Sample(120'000, 15, 70'000));
  const auto plain = MemoryWith();
  PushRemoteWrite(*plain, body);
  const auto starts = MemoryWith({"use-start-timestamps"});
  PushRemoteWrite(*starts, body);
  EXPECT_EQ(Asked(*plain, "resets(m[3m])", 120'000), Asked(*plain, "vector(0)", 120'000));
  EXPECT_EQ(Asked(*starts, "resets(m[3m])", 120'000), Asked(*starts, "vector(1)", 120'000));
}

TEST(RemoteWrite2, ExemplarsAreOneTenantsOwnAndThereOnce) {
  const auto db = MemoryWith();
  const std::string exemplar = BytesField(4, Refs({3, 4}) + DoubleField(2, 0.5) + VarintField(3, 7000));
  for (int round = 0; round < 2; ++round) {
    const PushOutcome outcome = PushRemoteWrite(*db, Request(Sample(6000, 1, 0) + exemplar), TenantId(5));
    EXPECT_EQ(outcome.samples, 1u);
    EXPECT_EQ(outcome.exemplars, 1u);
    EXPECT_EQ(outcome.rejected, 0u);
  }
  const auto found = db->Exemplars(TenantId(5), "rate(m[5m]) > 0 or topk(3, nothing)", {0, 10'000});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(
      ExemplarsJson(*found),
      R"([{"seriesLabels":{"__name__":"m"},"exemplars":[{"labels":{"trace_id":"t1"},"value":"0.5","timestamp":7}]}])");
  EXPECT_EQ(ExemplarsJson(db->Exemplars(TenantId(4), "m", {0, 10'000}).value()), "[]");
  EXPECT_EQ(ExemplarsJson(db->Exemplars(TenantId(5), "m", {0, 6999}).value()), "[]");
  EXPECT_EQ(db->Exemplars(TenantId(5), "m{", {0, 1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(db->Stats().at("millstream_exemplars"), 1);
}

TEST(RemoteRead, NativeHistogramsAreChunksForAClientThatTakesThem) {
  const auto db = MemoryWith();
  PushRemoteWrite(*db, Request(Histogram(5000)));
  // The encoding HISTOGRAM, then the bytes of the chunk.
  constexpr std::string_view kChunk("\x18\x02\x22");
  for (const std::string_view types : {std::string_view("\1\0", 2), std::string_view("\1")}) {
    const auto chunks = db->RemoteRead(kDefaultTenant, ReadM(types), {});
    ASSERT_TRUE(chunks.ok()) << chunks.status().ToString();
    EXPECT_TRUE(chunks->is_chunked);
    EXPECT_NE(chunks->body.find(kChunk), std::string::npos);
  }
  const auto samples = db->RemoteRead(kDefaultTenant, ReadM(std::string_view("\0", 1)), {});
  ASSERT_TRUE(samples.ok()) << samples.status().ToString();
  EXPECT_FALSE(samples->is_chunked);
}

TEST(RemoteRead, LimitsAndCancelsEndIt) {
  const auto db = MemoryWith();
  PushRemoteWrite(*db, Request(Sample(1000, 1, 0) + Sample(2000, 2, 0)));
  EXPECT_TRUE(db->RemoteRead(kDefaultTenant, ReadM("\1"), {.samples_max = 2})->is_chunked);
  EXPECT_EQ(db->RemoteRead(kDefaultTenant, ReadM("\1"), {.samples_max = 1}).status().code(),
            StatusCode::kResourceExhausted);
  QueryCancel cancel;
  cancel.Cancel();
  EXPECT_EQ(db->RemoteRead(kDefaultTenant, ReadM("\1"), {}, &cancel).status().code(), StatusCode::kCancelled);
  const auto other = db->RemoteRead(TenantId(9), ReadM("\1"), {});
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->body.empty());
}

}  // namespace
}  // namespace millstream::engine
