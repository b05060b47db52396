#include "block_format.h"

#include <algorithm>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"

namespace millstream::tsdb {
namespace {

constexpr uint8_t kMetaVersion = 1;

void PutPages(const std::vector<PageRef>& pages, codec::ByteWriter* out) {
  out->Varint(pages.size());
  for (const PageRef& page : pages) {
    out->Varint(page.position);
    out->Varint(page.bytes);
  }
}

bool GetPage(codec::ByteReader* in, PageRef* page) {
  uint64_t bytes = 0;
  if (!in->Varint(&page->position) || !in->Count(&bytes, kPageBytesMax)) return false;
  page->bytes = static_cast<uint32_t>(bytes);
  return true;
}

bool GetPages(codec::ByteReader* in, std::vector<PageRef>* pages) {
  uint64_t count = 0;
  if (!in->Count(&count, in->remaining() / 2)) return false;
  pages->resize(count);
  return std::all_of(pages->begin(), pages->end(), [in](PageRef& page) { return GetPage(in, &page); });
}

}  // namespace

std::string EncodeMeta(const BlockMeta& meta) {
  std::string page;
  codec::ByteWriter out(&page);
  out.U8(kMetaVersion);
  out.Varint(meta.sequence);
  out.SignedVarint(meta.min_time);
  out.SignedVarint(meta.max_time);
  for (const uint64_t number : {meta.series, meta.samples, meta.chunks_bytes, meta.index_bytes}) out.Varint(number);
  PutPages({meta.directory}, &out);
  out.Varint(meta.replaces.size());
  for (const uint64_t sequence : meta.replaces) out.Varint(sequence);
  return page;
}

Result<BlockMeta> DecodeMeta(std::string_view page) {
  codec::ByteReader in(page);
  BlockMeta meta;
  uint8_t version = 0;
  if (!in.U8(&version) || version != kMetaVersion) return DataLoss("the meta page has an unknown version");
  bool good = in.Varint(&meta.sequence) && in.SignedVarint(&meta.min_time) && in.SignedVarint(&meta.max_time) &&
              meta.min_time <= meta.max_time;
  for (uint64_t* number : {&meta.series, &meta.samples, &meta.chunks_bytes, &meta.index_bytes}) {
    good = good && in.Varint(number);
  }
  std::vector<PageRef> directory;
  uint64_t replaces = 0;
  good = good && GetPages(&in, &directory) && directory.size() == 1 && in.Count(&replaces, in.remaining());
  if (!good) return DataLoss("the meta page is malformed");
  meta.directory = directory[0];
  for (uint64_t i = 0; i < replaces; ++i) {
    uint64_t sequence = 0;
    if (!in.Varint(&sequence)) return DataLoss("the meta page is cut off");
    meta.replaces.push_back(sequence);
  }
  if (!in.empty()) return DataLoss("the meta page has {} bytes too many", in.remaining());
  return meta;
}

std::string EncodeDirectory(const std::vector<TenantEntry>& tenants) {
  std::string page;
  codec::ByteWriter out(&page);
  out.Varint(tenants.size());
  for (const TenantEntry& tenant : tenants) {
    out.Varint(tenant.tenant.value());
    out.Varint(tenant.series);
    PutPages(tenant.symbols, &out);
    PutPages(tenant.series_pages, &out);
    PutPages(tenant.postings, &out);
  }
  return page;
}

Result<std::vector<TenantEntry>> DecodeDirectory(std::string_view page) {
  codec::ByteReader in(page);
  std::vector<TenantEntry> tenants;
  uint64_t count = 0;
  if (!in.Count(&count, in.remaining())) return DataLoss("the directory page is malformed");
  for (uint64_t i = 0; i < count; ++i) {
    TenantEntry entry;
    uint64_t tenant = 0;
    uint64_t series = 0;
    if (!in.Count(&tenant, UINT32_MAX) || !in.Count(&series, UINT32_MAX) || !GetPages(&in, &entry.symbols) ||
        !GetPages(&in, &entry.series_pages) || !GetPages(&in, &entry.postings)) {
      return DataLoss("the directory page is malformed");
    }
    entry.tenant = TenantId(static_cast<uint32_t>(tenant));
    entry.series = static_cast<uint32_t>(series);
    tenants.push_back(std::move(entry));
  }
  if (!in.empty()) return DataLoss("the directory page has {} bytes too many", in.remaining());
  return tenants;
}

void PutSymbol(std::string_view symbol, codec::ByteWriter* out) {
  out->Bytes(symbol);
}

Status DecodeSymbols(std::string_view page, Symbols* out) {
  codec::ByteReader in(page);
  while (!in.empty()) {
    std::string_view symbol;
    if (!in.Bytes(&symbol) || symbol.size() > model::kLabelBytesMax || (!out->empty() && symbol <= out->back())) {
      return DataLoss("a page of symbols is malformed");
    }
    out->emplace_back(symbol);
  }
  return Status::Ok();
}

uint64_t SymbolNumber(const Symbols& symbols, std::string_view symbol) {
  const auto at = std::lower_bound(symbols.begin(), symbols.end(), symbol);
  MS_CHECK(at != symbols.end() && *at == symbol);
  return static_cast<uint64_t>(at - symbols.begin());
}

void PutSeries(const BlockSeries& series, const Symbols& symbols, codec::ByteWriter* out) {
  out->Varint(series.labels.size());
  for (const model::Label label : series.labels) {
    out->Varint(SymbolNumber(symbols, label.name));
    out->Varint(SymbolNumber(symbols, label.value));
  }
  out->Varint(series.chunks.size());
  for (const BlockChunk& chunk : series.chunks) {
    out->SignedVarint(chunk.min_time);
    out->SignedVarint(chunk.max_time);
    out->Varint(chunk.page.position);
    out->Varint(chunk.page.bytes);
  }
}

Status DecodeSeries(std::string_view page, const Symbols& symbols, size_t series_max, std::vector<BlockSeries>* out) {
  const auto bad = [] { return DataLoss("a page of series is malformed"); };
  codec::ByteReader in(page);
  std::vector<model::Label> pairs;
  while (!in.empty()) {
    if (out->size() >= series_max) return bad();
    uint64_t count = 0;
    if (!in.Count(&count, in.remaining() / 2)) return bad();
    pairs.clear();
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t name = 0;
      uint64_t value = 0;
      if (!in.Varint(&name) || !in.Varint(&value) || name >= symbols.size() || value >= symbols.size()) return bad();
      pairs.push_back({symbols[name], symbols[value]});
    }
    auto labels = model::Labels::FromPairs(pairs);
    if (!labels.ok()) return bad();
    if (!in.Count(&count, in.remaining() / 4)) return bad();
    BlockSeries series{std::move(labels).value(), std::vector<BlockChunk>(count)};
    for (BlockChunk& chunk : series.chunks) {
      if (!in.SignedVarint(&chunk.min_time) || !in.SignedVarint(&chunk.max_time) || chunk.min_time > chunk.max_time ||
          !GetPage(&in, &chunk.page)) {
        return bad();
      }
    }
    if (!out->empty() && !(out->back().labels < series.labels)) return bad();
    out->push_back(std::move(series));
  }
  return Status::Ok();
}

void PutPostings(uint64_t name_symbol, uint64_t value_symbol, const SeriesIds& ids, codec::ByteWriter* out) {
  out->Varint(name_symbol);
  out->Varint(value_symbol);
  out->Varint(ids.cardinality());
  uint32_t previous = 0;
  for (const uint32_t id : ids) {
    out->Varint(id - previous);
    previous = id;
  }
}

Status DecodePostings(std::string_view page, const Symbols& symbols, uint32_t series_count, LabelIndex* out) {
  const auto bad = [] { return DataLoss("a page of postings is malformed"); };
  codec::ByteReader in(page);
  std::vector<uint32_t> ids;
  while (!in.empty()) {
    uint64_t name = 0;
    uint64_t value = 0;
    uint64_t count = 0;
    if (!in.Varint(&name) || !in.Varint(&value) || name >= symbols.size() || value >= symbols.size()) return bad();
    if (!in.Count(&count, in.remaining())) return bad();
    ids.clear();
    uint64_t id = 0;
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t gap = 0;
      if (!in.Count(&gap, series_count) || (i > 0 && gap == 0)) return bad();
      id += gap;
      if (id >= series_count) return bad();
      ids.push_back(static_cast<uint32_t>(id));
    }
    out->AddPair(symbols[name], symbols[value], SeriesIds(ids.size(), ids.data()));
  }
  return Status::Ok();
}

}  // namespace millstream::tsdb
