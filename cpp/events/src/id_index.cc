#include "id_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <span>
#include <string_view>

#include "millstream/env/file_util.h"

namespace millstream::events {
namespace {

// Runs of up to so many entries are merged with their like; what is more stays as it is.
constexpr uint64_t kSmallRun = kIdRunEntriesMax / IdIndex::kMergedRuns / IdIndex::kMergedRuns;
constexpr uint64_t kMiddleRun = kSmallRun * IdIndex::kMergedRuns;

constexpr std::string_view kKeptSuffix = ".ids";
constexpr std::string_view kPassingSuffix = ".passing";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr size_t kOffsetDigits = 20;

std::optional<uint64_t> ParseOffset(std::string_view digits) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// The range in the name of a run that is kept.
std::optional<std::pair<uint64_t, uint64_t>> ParseRunName(std::string_view name) {
  if (!name.ends_with(kKeptSuffix)) return std::nullopt;
  name.remove_suffix(kKeptSuffix.size());
  if (name.size() != 2 * kOffsetDigits + 1 || name[kOffsetDigits] != '-') return std::nullopt;
  const auto first = ParseOffset(name.substr(0, kOffsetDigits));
  const auto end = ParseOffset(name.substr(kOffsetDigits + 1));
  if (!first.has_value() || !end.has_value() || *first >= *end) return std::nullopt;
  return std::pair(*first, *end);
}

void SortEntries(std::vector<IdEntry>* entries) {
  std::ranges::sort(*entries, [](const IdEntry& a, const IdEntry& b) {
    return a.hash != b.hash ? a.hash < b.hash : a.offset < b.offset;
  });
}

// Of parts that ascend, each from one of `begins` to the next: neighbours by twos, then fours, and so on.
std::vector<IdEntry> MergeParts(std::vector<IdEntry> entries, std::vector<size_t> begins) {
  const size_t parts = begins.size();
  begins.push_back(entries.size());
  std::vector<IdEntry> merged(entries.size());
  for (size_t width = 1; width < parts; width *= 2) {
    const auto at = [&](size_t part) {
      return entries.begin() + static_cast<ptrdiff_t>(begins[std::min(part, parts)]);
    };
    auto out = merged.begin();
    for (size_t part = 0; part < parts; part += 2 * width) {
      out = std::merge(at(part), at(part + width), at(part + width), at(part + 2 * width), out);
    }
    entries.swap(merged);
  }
  return entries;
}

std::vector<uint64_t> OffsetsOf(std::span<const IdEntry> entries, uint64_t hash) {
  std::vector<uint64_t> offsets;
  for (const IdEntry& entry : entries) {
    if (entry.hash == hash) offsets.push_back(entry.offset);
  }
  return offsets;
}

}  // namespace

// --- writer ---

std::vector<uint64_t> IdIndex::FindPending(uint64_t hash) const {
  return OffsetsOf(pending_, hash);
}

void IdIndex::Cut(uint64_t end) {
  while (from_ < end) {
    auto behind = std::ranges::lower_bound(pending_, end, {}, &IdEntry::offset);
    uint64_t run_end = end;
    if (static_cast<uint64_t>(behind - pending_.begin()) > kIdRunEntriesMax) {
      behind = pending_.begin() + kIdRunEntriesMax;
      run_end = behind->offset;
    }
    IdRun run{.first = from_, .end = run_end, .entries = {pending_.begin(), behind}};
    run.count = run.entries.size();
    pending_.erase(pending_.begin(), behind);
    from_ = run_end;
    const MutexLock lock(mutex_);
    // Whoever writes is too far behind: this one will be a hole.
    if (waiting_ids_ >= kWaitingIds) continue;
    waiting_ids_ += run.count;
    Insert(std::make_shared<const IdRun>(std::move(run)));
  }
}

void IdIndex::SetBounds(uint64_t start, uint64_t closed_end) {
  const MutexLock lock(mutex_);
  start_ = std::max(start_, start);
  closed_end_ = std::max(closed_end_, closed_end);
}

bool IdIndex::is_used() const {
  const MutexLock lock(mutex_);
  return !runs_.empty();
}

// --- background ---

bool IdIndex::Begin() {
  const MutexLock lock(mutex_);
  if (ended_) return false;
  busy_ = true;
  return true;
}

void IdIndex::Leave() {
  const MutexLock lock(mutex_);
  busy_ = false;
  left_.NotifyAll();
}

void IdIndex::Work() {
  work_wanted_.store(false);
  if (!Begin()) return;
  Load();
  WriteCuts();
  Keep();
  Trim();
  while (MergeSome()) {
  }
  Leave();
}

Status IdIndex::Fill(uint64_t first, uint64_t end, const ReadIds& read) {
  if (!Begin()) return Aborted("the log has been closed meanwhile");
  const auto fill = [&]() -> Status {
    {
      const MutexLock lock(mutex_);
      const bool covered =
          std::ranges::any_of(runs_, [&](const IdRunPtr& run) { return run->first < end && run->end > first; });
      if (covered) return Status::Ok();
    }
    MS_ASSIGN_OR_RETURN(std::vector<IdEntry> entries, read(first, &end));
    SortEntries(&entries);
    if (Write(first, end, std::move(entries)) == nullptr) return ResourceExhausted("a run of ids could not be written");
    return Status::Ok();
  };
  Status status = fill();
  while (status.ok() && MergeSome()) {
  }
  Leave();
  return status;
}

void IdIndex::Drop(const IdRunPtr& run) {
  if (!Begin()) return;
  if (Replace(run, nullptr)) RemoveFile(*run);
  Leave();
}

void IdIndex::Finish() {
  if (!Begin()) return;
  uint64_t closed_end = 0;
  std::vector<IdRunPtr> runs;
  {
    const MutexLock lock(mutex_);
    closed_end = closed_end_;
    runs = runs_;
  }
  // The log reads its last segment when it is opened, and whoever opens it knows those ids then.
  for (const IdRunPtr& run : runs) {
    if (run->end > closed_end && Replace(run, nullptr)) RemoveFile(*run);
  }
  WriteCuts();
  Keep();
  {
    const MutexLock lock(mutex_);
    runs_.clear();
    ended_ = true;
  }
  Leave();
}

void IdIndex::Load() {
  if (loaded_.load()) return;
  LoadFolder();
  loaded_.store(true);
}

void IdIndex::LoadFolder() {
  const auto exists = files_.Exists(folder_);
  if (!exists.ok() || !*exists) return;
  const auto entries = files_.List(folder_);
  if (!entries.ok()) return;
  uint64_t closed_end = 0;
  {
    const MutexLock lock(mutex_);
    closed_end = closed_end_;
  }
  const auto remove = [&](const std::string& name) { (void)files_.Remove(env::JoinPath(folder_, name)).ok(); };
  std::vector<std::pair<IdRun, std::string>> found;
  for (const env::FolderEntry& entry : *entries) {
    if (entry.name.ends_with(kPassingSuffix) || entry.name.ends_with(kTemporarySuffix)) remove(entry.name);
    const auto range = ParseRunName(entry.name);
    if (!range.has_value()) continue;
    const auto bytes = files_.FileSize(env::JoinPath(folder_, entry.name));
    const auto count = bytes.ok() ? IdRunEntriesIn(*bytes) : std::nullopt;
    if (!count.has_value() || range->second > closed_end) {
      remove(entry.name);
      continue;
    }
    found.emplace_back(
        IdRun{.first = range->first, .end = range->second, .count = *count, .kind = IdRun::Kind::kKept, .entries = {}},
        entry.name);
  }
  // Of those that overlap, as a crash in a merge leaves them, the one that is longest.
  std::ranges::sort(found, [](const auto& a, const auto& b) {
    return a.first.first != b.first.first ? a.first.first < b.first.first : a.first.end > b.first.end;
  });
  uint64_t covered = 0;
  for (auto& [run, name] : found) {
    if (run.first < covered) {
      remove(name);
      continue;
    }
    covered = run.end;
    const MutexLock lock(mutex_);
    Insert(std::make_shared<const IdRun>(std::move(run)));
  }
}

IdRunPtr IdIndex::Write(uint64_t first, uint64_t end, std::vector<IdEntry> entries) {
  IdRun run{.first = first, .end = end, .count = entries.size(), .entries = {}};
  if (folder_.empty()) {
    run.kind = IdRun::Kind::kMemory;
    run.entries = std::move(entries);
  } else {
    {
      const MutexLock lock(mutex_);
      run.kind = end <= closed_end_ ? IdRun::Kind::kKept : IdRun::Kind::kPassing;
    }
    const Status made = files_.MakeFolder(folder_);
    if (!made.ok() && made.code() != StatusCode::kAlreadyExists) return nullptr;
    const std::string path = PathOf(run);
    const std::string temporary = path + std::string(kTemporarySuffix);
    auto file = files_.OpenForWrite(temporary, env::OpenMode::kTruncate);
    // Without syncs: what a power cut leaves of it is broken, and is seen to be.
    const bool written = file.ok() && (*file)->Append(EncodeIdRun(first, end, entries)).ok();
    if (file.ok()) file->reset();
    if (!written || !files_.Rename(temporary, path).ok()) {
      (void)files_.Remove(temporary).ok();
      return nullptr;
    }
  }
  auto shared = std::make_shared<const IdRun>(std::move(run));
  const MutexLock lock(mutex_);
  // It takes the place of those that it was made of.
  for (const IdRunPtr& old : runs_) {
    if (old->kind == IdRun::Kind::kCut && old->first >= first && old->end <= end) waiting_ids_ -= old->count;
  }
  std::erase_if(runs_, [&](const IdRunPtr& old) { return old->first >= first && old->end <= end; });
  Insert(shared);
  return shared;
}

void IdIndex::WriteCuts() {
  std::vector<IdRunPtr> cuts;
  {
    const MutexLock lock(mutex_);
    for (const IdRunPtr& run : runs_) {
      if (run->kind == IdRun::Kind::kCut) cuts.push_back(run);
    }
  }
  for (const IdRunPtr& cut : cuts) {
    std::vector<IdEntry> entries = cut->entries;
    SortEntries(&entries);
    if (Write(cut->first, cut->end, std::move(entries)) == nullptr) (void)Replace(cut, nullptr);
  }
}

void IdIndex::Keep() {
  std::vector<IdRunPtr> ready;
  {
    const MutexLock lock(mutex_);
    for (const IdRunPtr& run : runs_) {
      if (run->kind == IdRun::Kind::kPassing && run->end <= closed_end_) ready.push_back(run);
    }
  }
  for (const IdRunPtr& run : ready) {
    auto kept = std::make_shared<IdRun>(*run);
    kept->kind = IdRun::Kind::kKept;
    if (files_.Rename(PathOf(*run), PathOf(*kept)).ok()) (void)Replace(run, std::move(kept));
  }
}

void IdIndex::Trim() {
  std::vector<IdRunPtr> gone;
  {
    const MutexLock lock(mutex_);
    while (!runs_.empty() && runs_.front()->end <= start_) {
      gone.push_back(runs_.front());
      runs_.erase(runs_.begin());
    }
  }
  for (const IdRunPtr& run : gone) RemoveFile(*run);
}

std::vector<IdRunPtr> IdIndex::FindMerge() const {
  for (const uint64_t most : {kSmallRun, kMiddleRun}) {
    size_t begin = 0;
    for (size_t i = 0; i < runs_.size(); ++i) {
      const IdRun& run = *runs_[i];
      const bool fits = run.count <= most && (run.kind == IdRun::Kind::kKept || run.kind == IdRun::Kind::kMemory);
      if (!fits || (i > begin && runs_[i - 1]->end != run.first)) begin = fits ? i : i + 1;
      if (i + 1 - begin == kMergedRuns) {
        return {runs_.begin() + static_cast<ptrdiff_t>(begin), runs_.begin() + static_cast<ptrdiff_t>(i + 1)};
      }
    }
  }
  return {};
}

bool IdIndex::MergeSome() {
  std::vector<IdRunPtr> parts;
  {
    const MutexLock lock(mutex_);
    parts = FindMerge();
  }
  if (parts.empty()) return false;
  std::vector<IdEntry> entries;
  std::vector<size_t> begins;
  for (const IdRunPtr& part : parts) {
    begins.push_back(entries.size());
    if (part->kind == IdRun::Kind::kMemory) {
      entries.insert(entries.end(), part->entries.begin(), part->entries.end());
      continue;
    }
    const auto read = ReadRun(*part);
    if (!read.ok()) {
      if (Replace(part, nullptr)) RemoveFile(*part);
      return true;
    }
    entries.insert(entries.end(), read->begin(), read->end());
  }
  entries = MergeParts(std::move(entries), std::move(begins));
  if (Write(parts.front()->first, parts.back()->end, std::move(entries)) == nullptr) return false;
  for (const IdRunPtr& part : parts) RemoveFile(*part);
  return true;
}

void IdIndex::Insert(IdRunPtr run) {
  const auto place =
      std::ranges::lower_bound(runs_, run->first, {}, [](const IdRunPtr& other) { return other->first; });
  runs_.insert(place, std::move(run));
}

bool IdIndex::Replace(const IdRunPtr& run, IdRunPtr made) {
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(runs_, run);
  if (found == runs_.end()) return false;
  if (run->kind == IdRun::Kind::kCut) waiting_ids_ -= run->count;
  if (made == nullptr) {
    runs_.erase(found);
  } else {
    *found = std::move(made);
  }
  return true;
}

void IdIndex::RemoveFile(const IdRun& run) {
  if (run.kind == IdRun::Kind::kPassing || run.kind == IdRun::Kind::kKept) (void)files_.Remove(PathOf(run)).ok();
}

// --- any ---

void IdIndex::End() {
  const MutexLock lock(mutex_);
  ended_ = true;
  while (busy_) left_.Wait(mutex_);
  runs_.clear();
}

bool IdIndex::ended() const {
  const MutexLock lock(mutex_);
  return ended_;
}

std::optional<IdIndex::Cover> IdIndex::FindBelow(uint64_t below) const {
  const MutexLock lock(mutex_);
  if (below <= start_) return std::nullopt;
  const auto behind = std::ranges::lower_bound(runs_, below, {}, [](const IdRunPtr& run) { return run->first; });
  if (behind == runs_.begin()) return Cover{.run = nullptr, .first = start_};
  const IdRunPtr& run = *std::prev(behind);
  if (run->end < below) return Cover{.run = nullptr, .first = std::max(run->end, start_)};
  return Cover{.run = run, .first = run->first};
}

std::string IdIndex::PathOf(const IdRun& run) const {
  return fmt::format("{}/{:020}-{:020}{}", folder_, run.first, run.end,
                     run.kind == IdRun::Kind::kKept ? kKeptSuffix : kPassingSuffix);
}

Result<IdRunFile> IdIndex::OpenRun(const IdRun& run) const {
  MS_ASSIGN_OR_RETURN(auto opened, files_.OpenForRead(PathOf(run)));
  MS_ASSIGN_OR_RETURN(IdRunFile file, IdRunFile::Open(std::move(opened)));
  if (file.first() != run.first || file.end() != run.end || file.count() != run.count) {
    return DataLoss("{} is another run of ids", PathOf(run));
  }
  return file;
}

Result<std::vector<IdEntry>> IdIndex::ReadRun(const IdRun& run) const {
  if (run.count == 0) return std::vector<IdEntry>();
  MS_ASSIGN_OR_RETURN(const IdRunFile file, OpenRun(run));
  return file.ReadAll();
}

Result<std::vector<uint64_t>> IdIndex::Find(const IdRun& run, uint64_t hash) const {
  if (run.count == 0) return std::vector<uint64_t>();
  if (run.kind == IdRun::Kind::kCut) return OffsetsOf(run.entries, hash);
  if (run.kind == IdRun::Kind::kMemory) {
    const auto [begin, end] = std::ranges::equal_range(run.entries, hash, {}, &IdEntry::hash);
    return OffsetsOf({begin, end}, hash);
  }
  MS_ASSIGN_OR_RETURN(const IdRunFile file, OpenRun(run));
  return file.Find(hash);
}

}  // namespace millstream::events
