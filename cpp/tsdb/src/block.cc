#include "block.h"

#include <algorithm>

#include "millstream/env/file_util.h"

namespace millstream::tsdb {
namespace {

Status InPage(const PageReader& file, PageRef page, Status status) {
  if (status.ok()) return status;
  return DataLoss("{}, page at byte {}: {}", file.path(), page.position, status.message());
}

}  // namespace

const BlockSeries* TenantBlock::Find(const model::Labels& labels) const {
  const auto at = std::lower_bound(series.begin(), series.end(), labels,
                                   [](const BlockSeries& a, const model::Labels& b) { return a.labels < b; });
  return at != series.end() && at->labels == labels ? &*at : nullptr;
}

Result<std::shared_ptr<const Block>> Block::Open(env::FileSystem& files, std::string folder, const BlockMeta& named) {
  std::shared_ptr<Block> block(new Block(std::move(folder), named));
  Status status = block->ReadMeta(files);
  // A file that is gone is as lost as one that is corrupt; anything else may pass, so opening fails.
  if (status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kNotFound) {
    block->broken_ = DataLoss("{}", status.message());
    block->meta_ = named;
  } else if (!status.ok()) {
    return status;
  }
  return std::shared_ptr<const Block>(std::move(block));
}

Status Block::ReadMeta(env::FileSystem& files) {
  MS_ASSIGN_OR_RETURN(const auto file, PageReader::Open(files, env::JoinPath(folder_, "meta"), kMetaMagic));
  uint64_t next = 0;
  MS_ASSIGN_OR_RETURN(const std::string page, file->ReadNext(kMagicBytes, &next));
  auto meta = DecodeMeta(page);
  if (!meta.ok()) return InPage(*file, {kMagicBytes, 0}, meta.status());
  if (meta->sequence != meta_.sequence || meta->min_time != meta_.min_time || meta->max_time != meta_.max_time) {
    return DataLoss("{} does not belong to this folder, at byte {}", file->path(), kMagicBytes);
  }
  meta_ = std::move(meta).value();
  MS_ASSIGN_OR_RETURN(chunks_, PageReader::Open(files, env::JoinPath(folder_, "chunks"), kChunksMagic));
  MS_ASSIGN_OR_RETURN(index_, PageReader::Open(files, env::JoinPath(folder_, "index"), kIndexMagic));
  MS_ASSIGN_OR_RETURN(const std::string directory, index_->Read(meta_.directory));
  auto entries = DecodeDirectory(directory);
  if (!entries.ok()) return InPage(*index_, meta_.directory, entries.status());
  directory_ = std::move(entries).value();
  return Status::Ok();
}

Result<std::vector<TenantId>> Block::Tenants() const {
  if (!broken_.ok()) return broken_;
  std::vector<TenantId> tenants;
  for (const TenantEntry& entry : directory_) tenants.push_back(entry.tenant);
  return tenants;
}

Result<std::shared_ptr<const TenantBlock>> Block::Tenant(TenantId tenant) const {
  if (!broken_.ok()) return broken_;
  const auto entry = std::find_if(directory_.begin(), directory_.end(),
                                  [tenant](const TenantEntry& candidate) { return candidate.tenant == tenant; });
  if (entry == directory_.end()) return std::shared_ptr<const TenantBlock>();
  {
    MutexLock lock(mutex_);
    if (const auto found = loaded_.find(tenant.value()); found != loaded_.end()) return found->second;
  }
  // Not under the lock: two readers may load at once, and one of them wins.
  MS_ASSIGN_OR_RETURN(auto loaded, Load(*entry));
  MutexLock lock(mutex_);
  return loaded_.emplace(tenant.value(), std::move(loaded)).first->second;
}

Result<std::shared_ptr<const TenantBlock>> Block::Load(const TenantEntry& entry) const {
  auto tenant = std::make_shared<TenantBlock>();
  Symbols symbols;
  for (const PageRef page : entry.symbols) {
    MS_ASSIGN_OR_RETURN(const std::string bytes, index_->Read(page));
    MS_RETURN_IF_ERROR(InPage(*index_, page, DecodeSymbols(bytes, &symbols)));
  }
  for (const PageRef page : entry.series_pages) {
    MS_ASSIGN_OR_RETURN(const std::string bytes, index_->Read(page));
    MS_RETURN_IF_ERROR(InPage(*index_, page, DecodeSeries(bytes, symbols, entry.series, &tenant->series)));
  }
  if (tenant->series.size() != entry.series) {
    return DataLoss("{} has {} series of a tenant instead of {}", index_->path(), tenant->series.size(), entry.series);
  }
  SeriesIds all;
  all.addRange(0, entry.series);
  tenant->index.SetAll(std::move(all));
  for (const PageRef page : entry.postings) {
    MS_ASSIGN_OR_RETURN(const std::string bytes, index_->Read(page));
    MS_RETURN_IF_ERROR(InPage(*index_, page, DecodePostings(bytes, symbols, entry.series, &tenant->index)));
  }
  return std::shared_ptr<const TenantBlock>(std::move(tenant));
}

Result<std::shared_ptr<const Chunk>> Block::ReadChunk(const BlockChunk& chunk) const {
  MS_ASSIGN_OR_RETURN(std::string bytes, chunks_->Read(chunk.page));
  auto parsed = Chunk::Parse(std::move(bytes));
  if (!parsed.ok()) return InPage(*chunks_, chunk.page, parsed.status());
  if ((*parsed)->min_time() != chunk.min_time || (*parsed)->max_time() != chunk.max_time) {
    return InPage(*chunks_, chunk.page, DataLoss("the chunk is not the one that the index names"));
  }
  return parsed;
}

}  // namespace millstream::tsdb
