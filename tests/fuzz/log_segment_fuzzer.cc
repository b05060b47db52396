// Opens a log whose last segment holds whatever the input says.
//
// The first byte chooses: even, the rest of the input is the file's bytes; odd, the rest is a list of pieces, from
// which a segment with right checksums is made, so that the fuzzer gets past them. Whatever the bytes are, opening
// answers OK or kDataLoss; after OK all can be read, a record can be appended, and opening again finds the same.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/check.h"
#include "millstream/codec/crc32c.h"
#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"
#include "millstream/log/local_log.h"
#include "millstream/log/segment.h"

namespace millstream::log {
namespace {

constexpr uint64_t kSalt = 7;
constexpr std::string_view kFolder = "/log";

uint8_t TakeByte(std::string_view* input) {
  if (input->empty()) return 0;
  const auto byte = static_cast<uint8_t>(input->front());
  input->remove_prefix(1);
  return byte;
}

std::string_view TakeBytes(std::string_view* input, size_t count) {
  const std::string_view bytes = input->substr(0, count);
  input->remove_prefix(bytes.size());
  return bytes;
}

void AppendBatch(const BatchHeader& header, std::string_view body, std::string* file) {
  const auto bytes = EncodeBatchHeader(header, kSalt);
  file->append(bytes.data(), bytes.size());
  file->append(body);
}

// A segment of pieces: well-formed batches, batches of any body, marks, gaps, padding, raw bytes.
std::string MakeSegmentBytes(std::string_view input) {
  SegmentHeader segment;
  segment.boot = TakeByte(&input);
  segment.salt = kSalt;
  const auto header_bytes = EncodeSegmentHeader(segment);
  std::string file(header_bytes.data(), header_bytes.size());
  Offset next(0);
  while (!input.empty() && file.size() < (1 << 20)) {
    const uint8_t piece = TakeByte(&input);
    BatchHeader header;
    header.first = next;
    header.synced = Offset(TakeByte(&input));
    header.boot = segment.boot;
    switch (piece % 6) {
      case 0: {
        std::string body;
        header.count = 1 + TakeByte(&input) % 4;
        for (uint32_t i = 0; i < header.count; ++i) {
          const std::string_view payload = TakeBytes(&input, TakeByte(&input));
          AppendRecordLength(&body, static_cast<uint32_t>(payload.size()));
          body += payload;
        }
        header.body_bytes = static_cast<uint32_t>(body.size());
        header.body_crc = codec::Crc32c(body);
        AppendBatch(header, body, &file);
        next += header.count;
        break;
      }
      case 1: {
        const std::string_view body = TakeBytes(&input, TakeByte(&input));
        header.count = TakeByte(&input);
        header.body_bytes = static_cast<uint32_t>(body.size()) + TakeByte(&input) % 2;
        header.body_crc = codec::Crc32c(body);
        AppendBatch(header, body, &file);
        break;
      }
      case 2:
        header.kind = BatchKind::kMark;
        AppendBatch(header, "", &file);
        break;
      case 4:
        header.kind = BatchKind::kGap;
        header.count = 1 + TakeByte(&input);
        header.body_crc = codec::Crc32c("");
        AppendBatch(header, "", &file);
        next += header.count;
        break;
      case 3:
        file.resize(SectorEnd(file.size()), '\0');
        break;
      default:
        file += TakeBytes(&input, TakeByte(&input));
    }
  }
  return file;
}

// All records, or the error that ends them.
Result<std::vector<std::string>> ReadAll(const LocalLog& log) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<storage::LogReader> reader, log.Read(log.start()));
  std::vector<std::string> payloads;
  while (true) {
    MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
    if (!record.has_value()) return payloads;
    payloads.emplace_back(record->payload);
  }
}

void OpenWhateverItIs(std::string_view input) {
  const bool raw = TakeByte(&input) % 2 == 0;
  env::SimFileSystem files(1);
  env::SeededRandom random(1);
  env::SimClock clock(0);
  const env::Env env{&clock, &random, &files, env::SystemEnv().executor};
  LocalLogOptions options;
  options.sync_thread = false;
  const std::string folder(kFolder);
  MS_CHECK(files.MakeFolder(folder).ok());
  MS_CHECK(
      files.Overwrite(folder + "/" + SegmentName(Offset(0)), raw ? std::string(input) : MakeSegmentBytes(input)).ok());

  auto log = LocalLog::Open(env, folder, options);
  if (!log.ok()) {
    MS_CHECK(log.status().code() == StatusCode::kDataLoss);
    return;
  }
  auto before = ReadAll(**log);
  MS_CHECK(before.ok());
  // Gaps have offsets and no records.
  MS_CHECK((*log)->end() - (*log)->start() >= before->size());
  const std::string_view record = "one more";
  MS_CHECK((*log)->Append(std::span(&record, 1)).ok());
  *log = nullptr;

  auto again = LocalLog::Open(env, folder, options);
  MS_CHECK(again.ok());
  MS_CHECK(!(*again)->recovery().tail_was_cut);
  before->emplace_back(record);
  auto after = ReadAll(**again);
  MS_CHECK(after.ok());
  MS_CHECK(*after == *before);
}

}  // namespace
}  // namespace millstream::log

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  millstream::log::OpenWhateverItIs({reinterpret_cast<const char*>(data), size});
  return 0;
}
