#include "snapshot.h"

#include <charconv>

#include "millstream/codec/byte_io.h"
#include "millstream/env/file_util.h"
#include "record.h"

namespace millstream::tsdb {
namespace {

constexpr uint8_t kHasMaxTime = 0x01;
constexpr uint8_t kHasOpen = 0x02;
constexpr size_t kMetadataPerPage = 256;

void PutChunks(const std::vector<std::shared_ptr<const Chunk>>& chunks, codec::ByteWriter* out) {
  out->Varint(chunks.size());
  for (const auto& chunk : chunks) out->Bytes(chunk->bytes());
}

Result<std::shared_ptr<const Chunk>> GetChunk(codec::ByteReader* in) {
  std::string_view bytes;
  if (!in->Bytes(&bytes)) return DataLoss("a chunk is cut off");
  return Chunk::Parse(std::string(bytes));
}

Status GetChunks(codec::ByteReader* in, std::vector<std::shared_ptr<const Chunk>>* chunks) {
  uint64_t count = 0;
  if (!in->Count(&count, in->remaining())) return DataLoss("a list of chunks is malformed");
  for (uint64_t i = 0; i < count; ++i) {
    MS_ASSIGN_OR_RETURN(auto chunk, GetChunk(in));
    chunks->push_back(std::move(chunk));
  }
  return Status::Ok();
}

Status GetSeries(codec::ByteReader* in, SnapshotSeries* series) {
  uint64_t ref = 0;
  std::string_view encoded;
  uint8_t flags = 0;
  if (!in->Varint(&ref) || ref == 0 || !in->Bytes(&encoded) || !in->U8(&flags)) {
    return DataLoss("a series is cut off");
  }
  if ((flags & ~(kHasMaxTime | kHasOpen)) != 0) return DataLoss("a series has the flags {:#x}", flags);
  series->ref = SeriesRef(ref);
  MS_ASSIGN_OR_RETURN(series->labels, model::Labels::FromEncoded(std::string(encoded)));
  if (series->labels.empty()) return DataLoss("a series has no labels");
  SeriesData::State& state = series->state;
  if ((flags & kHasMaxTime) != 0) {
    int64_t max_time = 0;
    if (!in->SignedVarint(&max_time)) return DataLoss("a series is cut off");
    state.max_time = max_time;
  }
  MS_RETURN_IF_ERROR(GetChunks(in, &state.sealed));
  for (size_t i = 1; i < state.sealed.size(); ++i) {
    if (state.sealed[i]->min_time() <= state.sealed[i - 1]->max_time()) return DataLoss("chunks do not ascend");
  }
  if ((flags & kHasOpen) != 0) {
    MS_ASSIGN_OR_RETURN(state.open, GetChunk(in));
  }
  MS_RETURN_IF_ERROR(GetChunks(in, &state.out_of_order));
  const auto& last = state.open != nullptr ? state.open : (state.sealed.empty() ? state.open : state.sealed.back());
  if (last != nullptr && (!state.max_time.has_value() || *state.max_time < last->max_time())) {
    return DataLoss("a series ends before its last chunk");
  }
  if (state.open != nullptr && !state.sealed.empty() && state.open->min_time() <= state.sealed.back()->max_time()) {
    return DataLoss("chunks do not ascend");
  }
  return Status::Ok();
}

}  // namespace

std::string SnapshotName(uint64_t generation) {
  return fmt::format("{}{:010}", kSnapshotPrefix, generation);
}

std::string TemporarySnapshotName(uint64_t generation) {
  return "tmp-" + SnapshotName(generation);
}

bool ParseSnapshotName(std::string_view name, uint64_t* generation) {
  if (!name.starts_with(kSnapshotPrefix)) return false;
  name.remove_prefix(kSnapshotPrefix.size());
  const auto [next, error] = std::from_chars(name.data(), name.data() + name.size(), *generation);
  return error == std::errc() && next == name.data() + name.size();
}

Result<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Create(env::FileSystem& files, std::string folder,
                                                               uint64_t generation, const SnapshotHeader& header) {
  std::unique_ptr<SnapshotWriter> writer(new SnapshotWriter(files, std::move(folder), generation));
  const std::string path = env::JoinPath(writer->folder_, TemporarySnapshotName(generation));
  MS_ASSIGN_OR_RETURN(writer->writer_, PageWriter::Create(files, path, kSnapshotMagic));
  std::string page;
  codec::ByteWriter out(&page);
  out.U8(static_cast<uint8_t>(SnapshotPage::Kind::kHeader));
  for (const uint64_t number : {header.next_offset, header.next_ref, header.next_block}) out.Varint(number);
  MS_RETURN_IF_ERROR(writer->writer_->Add(page).status());
  return writer;
}

Status SnapshotWriter::AddMetadata(TenantId tenant, const std::vector<model::MetricMetadata>& metadata) {
  for (size_t begin = 0; begin < metadata.size(); begin += kMetadataPerPage) {
    const size_t end = std::min(metadata.size(), begin + kMetadataPerPage);
    std::string page;
    codec::ByteWriter out(&page);
    out.U8(static_cast<uint8_t>(SnapshotPage::Kind::kMetadata));
    out.Varint(tenant.value());
    for (size_t i = begin; i < end; ++i) {
      for (const std::string* part : {&metadata[i].metric, &metadata[i].type, &metadata[i].help, &metadata[i].unit}) {
        out.Bytes(*part);
      }
    }
    MS_RETURN_IF_ERROR(writer_->Add(page).status());
  }
  return Status::Ok();
}

Status SnapshotWriter::AddExemplars(TenantId tenant, const std::vector<model::SeriesExemplars>& exemplars) {
  std::string page;
  codec::ByteWriter out(&page);
  for (const model::SeriesExemplars& of_series : exemplars) {
    for (const model::Exemplar& exemplar : of_series.exemplars) {
      if (page.empty()) {
        out.U8(static_cast<uint8_t>(SnapshotPage::Kind::kExemplars));
        out.Varint(tenant.value());
      }
      out.Bytes(of_series.series.encoded());
      PutExemplar(exemplar, &out);
      if (page.size() < kPageBytesTarget) continue;
      MS_RETURN_IF_ERROR(writer_->Add(page).status());
      page.clear();
    }
  }
  return page.empty() ? Status::Ok() : writer_->Add(page).status();
}

Status SnapshotWriter::AddSeries(TenantId tenant, SeriesRef ref, const model::Labels& labels,
                                 const SeriesData::State& state) {
  if (tenant != tenant_) MS_RETURN_IF_ERROR(FlushSeries());
  tenant_ = tenant;
  codec::ByteWriter out(&series_);
  out.Varint(ref.value());
  out.Bytes(labels.encoded());
  out.U8(
      static_cast<uint8_t>((state.max_time.has_value() ? kHasMaxTime : 0U) | (state.open != nullptr ? kHasOpen : 0U)));
  if (state.max_time.has_value()) out.SignedVarint(*state.max_time);
  PutChunks(state.sealed, &out);
  if (state.open != nullptr) out.Bytes(state.open->bytes());
  PutChunks(state.out_of_order, &out);
  ++series_total_;
  return series_.size() >= kPageBytesTarget ? FlushSeries() : Status::Ok();
}

Status SnapshotWriter::FlushSeries() {
  if (series_.empty()) return Status::Ok();
  std::string page;
  codec::ByteWriter out(&page);
  out.U8(static_cast<uint8_t>(SnapshotPage::Kind::kSeries));
  out.Varint(tenant_.value());
  out.Raw(series_);
  series_.clear();
  return writer_->Add(page).status();
}

Status SnapshotWriter::Finish() {
  MS_RETURN_IF_ERROR(FlushSeries());
  std::string page;
  codec::ByteWriter out(&page);
  out.U8(static_cast<uint8_t>(SnapshotPage::Kind::kEnd));
  out.Varint(series_total_);
  MS_RETURN_IF_ERROR(writer_->Add(page).status());
  MS_RETURN_IF_ERROR(writer_->Finish());
  MS_RETURN_IF_ERROR(files_.Rename(env::JoinPath(folder_, TemporarySnapshotName(generation_)),
                                   env::JoinPath(folder_, SnapshotName(generation_))));
  return files_.SyncFolder(folder_);
}

Result<SnapshotPage> DecodeSnapshotPage(std::string_view bytes) {
  codec::ByteReader in(bytes);
  SnapshotPage page;
  uint8_t kind = 0;
  if (!in.U8(&kind)) return DataLoss("a page of the head is empty");
  page.kind = static_cast<SnapshotPage::Kind>(kind);
  const auto get_tenant = [&] {
    uint64_t tenant = 0;
    if (!in.Count(&tenant, UINT32_MAX)) return false;
    page.tenant = TenantId(static_cast<uint32_t>(tenant));
    return true;
  };
  switch (page.kind) {
    case SnapshotPage::Kind::kHeader:
      if (!in.Varint(&page.header.next_offset) || !in.Varint(&page.header.next_ref) || page.header.next_ref == 0 ||
          !in.Varint(&page.header.next_block)) {
        return DataLoss("the header of the head is malformed");
      }
      break;
    case SnapshotPage::Kind::kMetadata:
      if (!get_tenant()) return DataLoss("a page of metadata is malformed");
      while (!in.empty()) {
        model::MetricMetadata metadata;
        for (std::string* part : {&metadata.metric, &metadata.type, &metadata.help, &metadata.unit}) {
          std::string_view text;
          if (!in.Bytes(&text)) return DataLoss("a page of metadata is cut off");
          part->assign(text);
        }
        page.metadata.push_back(std::move(metadata));
      }
      break;
    case SnapshotPage::Kind::kSeries:
      if (!get_tenant()) return DataLoss("a page of series is malformed");
      while (!in.empty()) {
        SnapshotSeries series;
        MS_RETURN_IF_ERROR(GetSeries(&in, &series));
        page.series.push_back(std::move(series));
      }
      break;
    case SnapshotPage::Kind::kExemplars:
      if (!get_tenant()) return DataLoss("a page of exemplars is malformed");
      while (!in.empty()) {
        std::string_view encoded;
        model::Exemplar exemplar;
        if (!in.Bytes(&encoded) || !GetExemplar(&in, &exemplar)) return DataLoss("a page of exemplars is cut off");
        MS_ASSIGN_OR_RETURN(model::Labels series, model::Labels::FromEncoded(std::string(encoded)));
        if (series.empty()) return DataLoss("an exemplar has no series");
        page.exemplars.push_back({std::move(series), {std::move(exemplar)}});
      }
      break;
    case SnapshotPage::Kind::kEnd:
      if (!in.Varint(&page.series_total)) return DataLoss("the end of the head is malformed");
      break;
    default:
      return DataLoss("a page of the head is of the kind {}", kind);
  }
  if (!in.empty()) return DataLoss("a page of the head has {} bytes too many", in.remaining());
  return page;
}

Result<SnapshotHeader> ReadSnapshot(env::FileSystem& files, const std::string& path,
                                    const std::function<Status(SnapshotPage)>& apply) {
  MS_ASSIGN_OR_RETURN(const auto file, PageReader::Open(files, path, kSnapshotMagic));
  SnapshotHeader header;
  uint64_t series = 0;
  bool first = true;
  for (uint64_t position = kMagicBytes;;) {
    const uint64_t begin = position;
    MS_ASSIGN_OR_RETURN(const std::string bytes, file->ReadNext(begin, &position));
    auto page = DecodeSnapshotPage(bytes);
    const auto in_page = [&](const Status& status) {
      return DataLoss("{}, page at byte {}: {}", path, begin, status.message());
    };
    if (!page.ok()) return in_page(page.status());
    if (first != (page->kind == SnapshotPage::Kind::kHeader)) return in_page(DataLoss("it is out of place"));
    first = false;
    if (page->kind == SnapshotPage::Kind::kEnd) {
      if (page->series_total != series || position != file->bytes()) return in_page(DataLoss("it ends another file"));
      return header;
    }
    if (page->kind == SnapshotPage::Kind::kHeader) header = page->header;
    series += page->series.size();
    if (Status status = apply(std::move(page).value()); !status.ok()) return in_page(status);
  }
}

}  // namespace millstream::tsdb
