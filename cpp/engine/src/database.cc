#include "millstream/engine/database.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "database_impl.h"
#include "millstream/env/file_util.h"
#include "millstream/model/labels.h"

namespace millstream::engine {
namespace {

constexpr std::string_view kManifestName = "MANIFEST";
// The gateway's: keys, tenants and the audit log. The engine leaves it alone.
constexpr std::string_view kAccessFolder = "meta";
constexpr std::string_view kEventsFolder = "events";
constexpr std::string_view kTransformsFolder = "transforms";
// How often events that retention no longer keeps are let go.
constexpr std::chrono::seconds kEventsInterval{5};
// How soon a member of a group that is not heard of any more is noticed, and an event that is due comes again.
constexpr std::chrono::milliseconds kGroupsInterval{200};
constexpr std::string_view kManifestFormat = "millstream 1\npartitions ";

// Every feature that may be enabled, and what it turns on.
struct Feature {
  std::string_view name;
  void (*enable)(promql::EngineOptions* options);
};
constexpr Feature kFeatures[] = {
    {"promql-experimental-functions", [](auto* options) { options->parser.experimental_functions = true; }},
    {"promql-extended-range-selectors", [](auto* options) { options->parser.extended_range_selectors = true; }},
    {"promql-binop-fill-modifiers", [](auto* options) { options->parser.binop_fill_modifiers = true; }},
    {"promql-delayed-name-removal", [](auto* options) { options->delayed_name_removal = true; }},
    {"use-start-timestamps", [](auto* options) { options->use_start_timestamps = true; }},
    {"promql-duration-expr", [](auto*) {}},  // always on
};

// Null when there is no such feature.
const Feature* FindFeature(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFeatures), std::end(kFeatures),
                                   [&](const Feature& feature) { return feature.name == name; });
  return found == std::end(kFeatures) ? nullptr : found;
}

// Of checked options.
promql::EngineOptions PromqlOptions(const DatabaseOptions& options) {
  promql::EngineOptions out;
  for (const std::string& name : options.enabled_features) FindFeature(name)->enable(&out);
  return out;
}

tsdb::PartitionOptions ViewOptions(const DatabaseOptions& options, int partitions,
                                   std::shared_ptr<tsdb::SeriesCounts> series_counts) {
  tsdb::PartitionOptions out;
  out.out_of_order_window_ms = options.out_of_order_window_ms;
  out.retention_ms = options.retention_ms;
  out.series_max = options.series_max;
  out.series_counts = std::move(series_counts);
  out.exemplar_bytes_max = static_cast<uint64_t>(options.exemplar_bytes_max / partitions);
  return out;
}

}  // namespace

Status CheckOptions(const DatabaseOptions& options) {
  for (const std::string& name : options.enabled_features) {
    if (FindFeature(name) == nullptr) return InvalidArgument("unknown feature \"{}\"", name);
  }
  if (options.partitions < 0 || options.partitions > kPartitionsMax) {
    return InvalidArgument("partitions must be 0 to {}, not {}", kPartitionsMax, options.partitions);
  }
  if (options.retention_ms < 0 || options.out_of_order_window_ms < 0 || options.future_window_ms < 0 ||
      options.memory_limit_bytes < 0 || options.exemplar_bytes_max < 0) {
    return InvalidArgument("retention, windows and limits of memory must not be negative");
  }
  if (options.checkpoint_interval_ms <= 0) return InvalidArgument("the checkpoint interval must be positive");
  return Status::Ok();
}

Database::Impl::Impl(const DatabaseOptions& options, const env::Env& env)
    : options_(options), env_(env), promql_(PromqlOptions(options)) {}

Status Database::Impl::OpenInMemory() {
  const int count = options_.partitions > 0 ? options_.partitions : env_.executor->cpu_count();
  for (int i = 0; i < count; ++i) {
    PartitionParts parts;
    parts.partition = tsdb::Partition::MakeInMemory(ViewOptions(options_, count, series_counts_));
    partitions_.push_back(std::move(parts));
  }
  MS_RETURN_IF_ERROR(StartEvents(""));
  MS_RETURN_IF_ERROR(StartWorkers());
  return StartTransforms("");
}

Status Database::Impl::CheckFolder(const std::string& path) {
  env::FileSystem& files = *env_.files;
  MS_ASSIGN_OR_RETURN(const bool made, files.Exists(fmt::format("{}/{}", path, kManifestName)));
  if (made) return Status::Ok();
  if (!options_.create_if_missing) return NotFound("{} holds no Millstream database", path);
  MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(path));
  if (!exists) return Status::Ok();
  MS_ASSIGN_OR_RETURN(const std::vector<env::FolderEntry> entries, files.List(path));
  for (const env::FolderEntry& entry : entries) {
    // What a first start leaves that died half way, what a new file system has in its root, and the keys that were made
    // before the first start.
    if (entry.name == "LOCK" || entry.name == "lost+found" || entry.name == kAccessFolder ||
        entry.name.starts_with(kManifestName)) {
      continue;
    }
    return FailedPrecondition("{} is no Millstream database and not empty: it has {}; give an empty or a new folder",
                              path, model::Quote(entry.name));
  }
  return Status::Ok();
}

Result<int> Database::Impl::ReadOrWriteManifest(const std::string& path) {
  env::FileSystem& files = *env_.files;
  const std::string name = fmt::format("{}/{}", path, kManifestName);
  MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(name));
  if (!exists) {
    const int count =
        options_.partitions > 0 ? options_.partitions : std::min(env_.executor->cpu_count(), kPartitionsMax);
    MS_RETURN_IF_ERROR(env::WriteFileAtomically(files, name, fmt::format("{}{}\n", kManifestFormat, count)));
    return count;
  }
  MS_ASSIGN_OR_RETURN(const std::string text, env::ReadFile(files, name, 4096));
  int count = 0;
  if (!text.starts_with(kManifestFormat) || text.back() != '\n') {
    return DataLoss("{} is not a manifest of this version", name);
  }
  for (const char c : std::string_view(text).substr(kManifestFormat.size(), text.size() - kManifestFormat.size() - 1)) {
    if (c < '0' || c > '9' || count > kPartitionsMax) return DataLoss("{} does not tell the partitions", name);
    count = count * 10 + (c - '0');
  }
  if (count < 1 || count > kPartitionsMax) return DataLoss("{} says {} partitions", name, count);
  if (options_.partitions != 0 && options_.partitions != count) {
    return FailedPrecondition("{} was made with {} partitions, not {}; the number cannot be changed", path, count,
                              options_.partitions);
  }
  return count;
}

Status Database::Impl::OpenFolder(const std::string& path) {
  env::FileSystem& files = *env_.files;
  MS_RETURN_IF_ERROR(CheckFolder(path));
  MS_RETURN_IF_ERROR(env::MakeFolders(files, path));
  MS_ASSIGN_OR_RETURN(lock_, files.LockFolder(path));
  MS_ASSIGN_OR_RETURN(const int count, ReadOrWriteManifest(path));
  for (int i = 0; i < count; ++i) {
    const std::string folder = fmt::format("{}/partition-{:04}", path, i);
    MS_RETURN_IF_ERROR(env::MakeFolders(files, folder + "/log"));
    MS_RETURN_IF_ERROR(env::MakeFolders(files, folder + "/metrics"));
    PartitionParts parts;
    MS_ASSIGN_OR_RETURN(parts.log, log::LocalLog::Open(env_, folder + "/log", {.durability = options_.durability}));
    MS_ASSIGN_OR_RETURN(parts.partition, tsdb::Partition::Open(ViewOptions(options_, count, series_counts_), files,
                                                               *env_.clock, folder + "/metrics", parts.log.get()));
    partitions_.push_back(std::move(parts));
    MS_RETURN_IF_ERROR(files.SyncFolder(folder));
  }
  // Folders that were there already may be from a run that died before it made them durable.
  MS_RETURN_IF_ERROR(files.SyncFolder(path));
  MS_RETURN_IF_ERROR(files.SyncFolder(env::ParentFolder(path)));
  MS_RETURN_IF_ERROR(StartEvents(fmt::format("{}/{}", path, kEventsFolder)));
  MS_RETURN_IF_ERROR(StartWorkers());
  return StartTransforms(fmt::format("{}/{}", path, kTransformsFolder));
}

Status Database::Impl::StartEvents(const std::string& folder) {
  MS_ASSIGN_OR_RETURN(
      events_,
      events::Broker::Open(env_, folder, {.durability = options_.durability, .check_selectors = MetricFeed::Check}));
  feed_ = std::make_unique<MetricFeed>(*events_);
  MS_ASSIGN_OR_RETURN(
      events_timer_,
      env::IntervalTimer::Start("ms-events", kEventsInterval, [this] { events_->Maintain(false); }, *env_.executor));
  MS_ASSIGN_OR_RETURN(
      groups_timer_,
      env::IntervalTimer::Start("ms-groups", kGroupsInterval, [this] { events_->TickGroups(); }, *env_.executor));
  return Status::Ok();
}

Status Database::Impl::StartTransforms(const std::string& folder) {
  TransformStore store{.write =
                           [this](TenantId tenant, uint64_t series_max, std::span<const TransformSample> samples) {
                             return WriteTransformed(tenant, series_max, samples);
                           },
                       .newest = [this](TenantId tenant, std::string_view pairs) { return NewestOf(tenant, pairs); }};
  MS_ASSIGN_OR_RETURN(transforms_, Transforms::Open(env_, folder, *events_, std::move(store)));
  return transforms_->Start();
}

Status Database::Impl::StartWorkers() {
  std::vector<const storage::Queryable*> stores;
  const int cpus = env_.executor->cpu_count();
  for (size_t i = 0; i < partitions_.size(); ++i) {
    PartitionParts& parts = partitions_[i];
    std::optional<int> cpu;
    if (options_.pin_threads) cpu = static_cast<int>(i) % cpus;
    MS_ASSIGN_OR_RETURN(parts.worker,
                        PartitionWorker::Start(fmt::format("partition-{}", i), cpu, *parts.partition, *env_.executor));
    doors_.push_back({parts.worker.get(), parts.log.get()});
    stores.push_back(parts.partition.get());
  }
  queryable_ = std::make_unique<tsdb::MergeQueryable>(std::move(stores));
  MS_ASSIGN_OR_RETURN(timer_, env::IntervalTimer::Start(
                                  "ms-maintenance", std::chrono::milliseconds(options_.checkpoint_interval_ms),
                                  [this] {
                                    for (const PartitionDoor& door : doors_) {
                                      door.worker->Maintain();
                                    }
                                    events_->Maintain(true);
                                  },
                                  *env_.executor));
  return Status::Ok();
}

Status Database::Impl::Close() {
  if (closed_.exchange(true)) return Status::Ok();
  // First: whoever waits for events stops waiting.
  if (events_ != nullptr) events_->Close();
  // It writes like any caller, so before those are kept out; its stopping waits for the write that runs.
  if (transforms_ != nullptr) transforms_->Stop();
  const WriterLock alone(open_mutex_);
  timer_.reset();
  events_timer_.reset();
  groups_timer_.reset();
  Status first_error;
  for (PartitionParts& parts : partitions_) {
    if (parts.worker == nullptr) continue;
    Status stopped = parts.worker->Stop();
    // Also after a flush that failed: what was acknowledged stays readable in a log that was closed in order.
    Status closed = parts.log != nullptr ? parts.log->Close() : Status::Ok();
    for (Status* status : {&stopped, &closed}) {
      if (first_error.ok()) first_error = std::move(*status);
    }
  }
  queryable_.reset();
  doors_.clear();
  partitions_.clear();
  lock_.reset();
  return first_error;
}

Status Database::Impl::CheckOpen() const {
  return closed_.load() ? Unavailable("the database is closed") : Status::Ok();
}

Status Database::Impl::CheckMemory() const {
  if (options_.memory_limit_bytes == 0) return Status::Ok();
  uint64_t used = 0;
  for (const PartitionParts& parts : partitions_) used += parts.partition->Stats().head_bytes;
  if (used <= static_cast<uint64_t>(options_.memory_limit_bytes)) return Status::Ok();
  return ResourceExhausted("the engine holds {} bytes in memory, more than its limit storage.memory_limit_bytes of {}",
                           used, options_.memory_limit_bytes);
}

PartitionId Database::Impl::PartitionOf(TenantId tenant, const model::Labels& labels) const {
  // Not Hash() alone: its low bits choose buckets of tables inside the partitions too.
  const uint64_t hash = (labels.Hash() ^ (uint64_t{tenant.value()} * 0x9E3779B97F4A7C15)) >> 17;
  return PartitionId(static_cast<uint32_t>(hash % doors_.size()));
}

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Database::~Database() {
  (void)impl_->Close().ok();
}

Result<std::unique_ptr<Database>> Database::Open(const std::string& path, const DatabaseOptions& options,
                                                 const env::Env& env) {
  MS_RETURN_IF_ERROR(CheckOptions(options));
  if (path.empty()) return InvalidArgument("the path is empty; \"{}\" opens a database in memory", kMemoryPath);
  auto impl = std::make_unique<Impl>(options, env);
  MS_RETURN_IF_ERROR(path == kMemoryPath ? impl->OpenInMemory() : impl->OpenFolder(path));
  return std::unique_ptr<Database>(new Database(std::move(impl)));
}

Status Database::Close() {
  return impl_->Close();
}

events::Broker& Database::Events() {
  return *impl_->events_;
}

void Database::LimitSeries(TenantId tenant, uint64_t series_max) {
  impl_->transforms_->LimitSeries(tenant, series_max);
}

TimestampMs Database::Now() const {
  return impl_->env_.clock->WallNow();
}

std::map<std::string, double> Database::Stats() const {
  std::map<std::string, double> out;
  const ReaderLock open(impl_->open_mutex_);
  if (impl_->closed_.load()) return out;
  const auto add = [&out](const char* name, auto value) { out[name] += static_cast<double>(value); };
  for (const PartitionParts& parts : impl_->partitions_) {
    const tsdb::PartitionStats stats = parts.partition->Stats();
    add("millstream_head_series", stats.series);
    add("millstream_head_bytes", stats.head_bytes);
    add("millstream_blocks", stats.blocks);
    add("millstream_block_bytes", stats.block_bytes);
    add("millstream_samples_appended_total", stats.samples_appended);
    add("millstream_samples_out_of_order_total", stats.samples_out_of_order);
    add("millstream_samples_duplicate_total", stats.samples_duplicate);
    add("millstream_samples_rejected_total", stats.samples_rejected);
    add("millstream_exemplars", stats.exemplars);
    add("millstream_exemplar_bytes", stats.exemplar_bytes);
    add("millstream_exemplars_appended_total", stats.exemplars_appended);
    add("millstream_write_queue_tasks", parts.worker->queued());
    add("millstream_checkpoints_total", parts.worker->checkpoints());
    add("millstream_checkpoint_failures_total", parts.worker->checkpoint_failures());
    if (parts.log != nullptr) {
      const log::LogStats log_stats = parts.log->stats();
      add("millstream_log_records", parts.log->end() - parts.log->start());
      add("millstream_log_segments", log_stats.segments);
      add("millstream_log_appended_records_total", log_stats.appended_records);
      add("millstream_log_appended_bytes_total", log_stats.appended_bytes);
      add("millstream_log_syncs_total", log_stats.syncs);
    }
  }
  for (const auto& [name, value] : impl_->events_->Stats()) out[name] += value;
  for (const auto& [name, value] : impl_->transforms_->Stats()) out[name] += value;
  for (const auto& [name, value] : impl_->feed_->Stats()) out[name] += value;
  add("millstream_partitions", impl_->partitions_.size());
  add("millstream_series_cache_entries", impl_->cache_.size());
  add("millstream_delta_series", impl_->deltas_.series());
  return out;
}

}  // namespace millstream::engine
