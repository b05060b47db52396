// SnapshotWriter and ReadSnapshot: the head as one file. docs/formats/head.md draws it.
//
// Threads     One at a time.
// Errors      Reading: kDataLoss naming file and byte.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/env/file_system.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/labels.h"
#include "millstream/model/metadata.h"
#include "page_file.h"
#include "series.h"

namespace millstream::tsdb {

inline constexpr std::string_view kSnapshotMagic = "MSHEAD01";
inline constexpr std::string_view kSnapshotPrefix = "head-";

// "head-0000000012"
std::string SnapshotName(uint64_t generation);
// What it is called until it is whole.
std::string TemporarySnapshotName(uint64_t generation);
bool ParseSnapshotName(std::string_view name, uint64_t* generation);

struct SnapshotHeader {
  uint64_t next_offset = 0;  // of the log: what is not in the snapshot begins here; 0 without a log
  uint64_t next_ref = 1;
  uint64_t next_block = 1;
};

struct SnapshotSeries {
  SeriesRef ref;
  model::Labels labels;
  SeriesData::State state;
};

// What a snapshot page holds.
struct SnapshotPage {
  enum class Kind : uint8_t { kHeader = 1, kMetadata = 2, kSeries = 3, kEnd = 4, kExemplars = 5 };
  Kind kind = Kind::kHeader;
  SnapshotHeader header;
  TenantId tenant{0};
  std::vector<model::MetricMetadata> metadata;
  std::vector<SnapshotSeries> series;
  std::vector<model::SeriesExemplars> exemplars;  // one each, in order of arrival
  uint64_t series_total = 0;                      // of the file, in the end page
};
Result<SnapshotPage> DecodeSnapshotPage(std::string_view page);

class SnapshotWriter {
 public:
  // Writes to a temporary name.
  static Result<std::unique_ptr<SnapshotWriter>> Create(env::FileSystem& files, std::string folder, uint64_t generation,
                                                        const SnapshotHeader& header);

  Status AddMetadata(TenantId tenant, const std::vector<model::MetricMetadata>& metadata);
  Status AddExemplars(TenantId tenant, const std::vector<model::SeriesExemplars>& exemplars);
  Status AddSeries(TenantId tenant, SeriesRef ref, const model::Labels& labels, const SeriesData::State& state);
  // Makes it durable under its name.
  Status Finish();

 private:
  SnapshotWriter(env::FileSystem& files, std::string folder, uint64_t generation)
      : files_(files), folder_(std::move(folder)), generation_(generation) {}
  Status FlushSeries();

  env::FileSystem& files_;
  const std::string folder_;
  const uint64_t generation_;
  std::unique_ptr<PageWriter> writer_;
  TenantId tenant_{0};
  std::string series_;  // the items of the page to come
  uint64_t series_total_ = 0;
};

// Hands every page but the last to `apply`, in order, the header first. An error of `apply` ends the reading.
Result<SnapshotHeader> ReadSnapshot(env::FileSystem& files, const std::string& path,
                                    const std::function<Status(SnapshotPage)>& apply);

}  // namespace millstream::tsdb
