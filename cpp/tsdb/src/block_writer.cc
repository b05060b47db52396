#include "block_writer.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/env/file_util.h"

namespace millstream::tsdb {
namespace {

// Collects items into pages of about kPageBytesTarget.
class PageFiller {
 public:
  PageFiller(PageWriter& writer, std::vector<PageRef>* pages) : writer_(writer), pages_(*pages), out_(&page_) {}

  codec::ByteWriter* out() { return &out_; }
  Status ItemDone() { return page_.size() >= kPageBytesTarget ? Flush() : Status::Ok(); }
  Status Flush() {
    if (page_.empty()) return Status::Ok();
    MS_ASSIGN_OR_RETURN(const PageRef page, writer_.Add(page_));
    pages_.push_back(page);
    page_.clear();
    return Status::Ok();
  }

 private:
  PageWriter& writer_;
  std::vector<PageRef>& pages_;
  std::string page_;
  codec::ByteWriter out_;
};

}  // namespace

std::string BlockFolderName(uint64_t sequence, TimestampMs min_time, TimestampMs max_time) {
  return fmt::format("{}{:010}_{}_{}", kBlockPrefix, sequence, min_time, max_time);
}

bool ParseBlockFolderName(std::string_view name, BlockMeta* meta) {
  if (!name.starts_with(kBlockPrefix)) return false;
  const char* at = name.data() + kBlockPrefix.size();
  const char* const end = name.data() + name.size();
  const auto number = [&](auto* out, bool last) {
    const auto [next, error] = std::from_chars(at, end, *out);
    if (error != std::errc() || (last ? next != end : next == end || *next != '_')) return false;
    at = last ? next : next + 1;
    return true;
  };
  return number(&meta->sequence, false) && number(&meta->min_time, false) && number(&meta->max_time, true) &&
         meta->min_time <= meta->max_time;
}

Result<std::unique_ptr<BlockWriter>> BlockWriter::Create(env::FileSystem& files, std::string partition_folder,
                                                         uint64_t sequence) {
  std::string folder =
      env::JoinPath(partition_folder, fmt::format("{}{}{:010}", kTemporaryPrefix, kBlockPrefix, sequence));
  MS_RETURN_IF_ERROR(files.MakeFolder(folder));
  std::unique_ptr<BlockWriter> writer(new BlockWriter(files, std::move(partition_folder), std::move(folder), sequence));
  MS_ASSIGN_OR_RETURN(writer->chunks_,
                      PageWriter::Create(files, env::JoinPath(writer->folder_, "chunks"), kChunksMagic));
  MS_ASSIGN_OR_RETURN(writer->index_, PageWriter::Create(files, env::JoinPath(writer->folder_, "index"), kIndexMagic));
  return writer;
}

BlockWriter::~BlockWriter() {
  if (!renamed_) (void)env::RemoveTree(files_, folder_);
}

Status BlockWriter::AddSeries(TenantId tenant, const model::Labels& labels,
                              std::span<const std::shared_ptr<const Chunk>> chunks) {
  MS_CHECK(!chunks.empty());
  if (tenant_.has_value() && *tenant_ != tenant) MS_RETURN_IF_ERROR(FinishTenant());
  tenant_ = tenant;
  MS_CHECK(series_.empty() || series_.back().labels < labels);
  BlockSeries series{labels, {}};
  series.chunks.reserve(chunks.size());
  for (const auto& chunk : chunks) {
    MS_ASSIGN_OR_RETURN(const PageRef page, chunks_->Add(chunk->bytes()));
    series.chunks.push_back({chunk->min_time(), chunk->max_time(), page});
    const bool first = meta_.samples == 0;
    meta_.min_time = first ? chunk->min_time() : std::min(meta_.min_time, chunk->min_time());
    meta_.max_time = first ? chunk->max_time() : std::max(meta_.max_time, chunk->max_time());
    meta_.samples += chunk->count();
  }
  ++meta_.series;
  series_.push_back(std::move(series));
  return Status::Ok();
}

Status BlockWriter::FinishTenant() {
  if (series_.empty()) return Status::Ok();
  TenantEntry entry;
  entry.tenant = *tenant_;
  entry.series = static_cast<uint32_t>(series_.size());

  std::set<std::string_view> distinct;
  LabelIndex postings;
  for (uint32_t id = 0; id < series_.size(); ++id) {
    for (const model::Label label : series_[id].labels) {
      distinct.insert(label.name);
      distinct.insert(label.value);
    }
    postings.Add(id, series_[id].labels);
  }
  const Symbols symbols(distinct.begin(), distinct.end());

  PageFiller symbol_pages(*index_, &entry.symbols);
  for (const std::string& symbol : symbols) {
    PutSymbol(symbol, symbol_pages.out());
    MS_RETURN_IF_ERROR(symbol_pages.ItemDone());
  }
  MS_RETURN_IF_ERROR(symbol_pages.Flush());
  PageFiller series_pages(*index_, &entry.series_pages);
  for (const BlockSeries& series : series_) {
    PutSeries(series, symbols, series_pages.out());
    MS_RETURN_IF_ERROR(series_pages.ItemDone());
  }
  MS_RETURN_IF_ERROR(series_pages.Flush());
  PageFiller posting_pages(*index_, &entry.postings);
  for (const auto& [name, values] : postings.names()) {
    const uint64_t name_symbol = SymbolNumber(symbols, name);
    for (const auto& [value, ids] : values) {
      PutPostings(name_symbol, SymbolNumber(symbols, value), ids, posting_pages.out());
      MS_RETURN_IF_ERROR(posting_pages.ItemDone());
    }
  }
  MS_RETURN_IF_ERROR(posting_pages.Flush());
  directory_.push_back(std::move(entry));
  series_.clear();
  return Status::Ok();
}

Result<std::string> BlockWriter::Finish(std::vector<uint64_t> replaces) {
  MS_CHECK(meta_.samples > 0);
  MS_RETURN_IF_ERROR(FinishTenant());
  MS_ASSIGN_OR_RETURN(meta_.directory, index_->Add(EncodeDirectory(directory_)));
  meta_.replaces = std::move(replaces);
  MS_RETURN_IF_ERROR(chunks_->Finish());
  MS_RETURN_IF_ERROR(index_->Finish());
  meta_.chunks_bytes = chunks_->bytes();
  meta_.index_bytes = index_->bytes();
  MS_ASSIGN_OR_RETURN(const auto meta, PageWriter::Create(files_, env::JoinPath(folder_, "meta"), kMetaMagic));
  MS_ASSIGN_OR_RETURN(const PageRef ignored, meta->Add(EncodeMeta(meta_)));
  (void)ignored;
  MS_RETURN_IF_ERROR(meta->Finish());
  MS_RETURN_IF_ERROR(files_.SyncFolder(folder_));
  std::string final_folder =
      env::JoinPath(partition_folder_, BlockFolderName(meta_.sequence, meta_.min_time, meta_.max_time));
  MS_RETURN_IF_ERROR(files_.Rename(folder_, final_folder));
  renamed_ = true;
  MS_RETURN_IF_ERROR(files_.SyncFolder(partition_folder_));
  return final_folder;
}

}  // namespace millstream::tsdb
