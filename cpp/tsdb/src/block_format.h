// The pages of a block's meta and index files, to bytes and back. docs/formats/block.md and index.md draw them.
//
// Threads     Pure functions.
// Errors      Decoding: kDataLoss for bytes that encoding does not write; nothing is allocated by a length that was not
//             checked against the bytes that are there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chunk.h"
#include "label_index.h"
#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/codec/byte_io.h"
#include "page_file.h"

namespace millstream::tsdb {

inline constexpr std::string_view kMetaMagic = "MSBMETA1";
inline constexpr std::string_view kIndexMagic = "MSBINDX1";
inline constexpr std::string_view kChunksMagic = "MSBCHNK1";

struct BlockMeta {
  uint64_t sequence = 0;  // of creation, within the partition
  TimestampMs min_time = 0;
  TimestampMs max_time = 0;
  uint64_t series = 0;
  uint64_t samples = 0;
  uint64_t chunks_bytes = 0;  // of the files
  uint64_t index_bytes = 0;
  PageRef directory;               // in the index file
  std::vector<uint64_t> replaces;  // blocks whose data this one holds
};

// Where one tenant's pages are in the index file.
struct TenantEntry {
  TenantId tenant{0};
  uint32_t series = 0;
  std::vector<PageRef> symbols;
  std::vector<PageRef> series_pages;
  std::vector<PageRef> postings;
};

struct BlockChunk {
  TimestampMs min_time = 0;
  TimestampMs max_time = 0;
  PageRef page;  // in the chunks file

  bool Overlaps(storage::TimeRange range) const { return min_time <= range.max && max_time >= range.min; }
};

// A series of a block; its number is its place in ascending order of labels.
struct BlockSeries {
  model::Labels labels;
  std::vector<BlockChunk> chunks;
};

using Symbols = std::vector<std::string>;  // ascending

std::string EncodeMeta(const BlockMeta& meta);
Result<BlockMeta> DecodeMeta(std::string_view page);

std::string EncodeDirectory(const std::vector<TenantEntry>& tenants);
Result<std::vector<TenantEntry>> DecodeDirectory(std::string_view page);

void PutSymbol(std::string_view symbol, codec::ByteWriter* out);
Status DecodeSymbols(std::string_view page, Symbols* out);

// `symbols` has every name and value.
void PutSeries(const BlockSeries& series, const Symbols& symbols, codec::ByteWriter* out);
Status DecodeSeries(std::string_view page, const Symbols& symbols, size_t series_max, std::vector<BlockSeries>* out);

void PutPostings(uint64_t name_symbol, uint64_t value_symbol, const SeriesIds& ids, codec::ByteWriter* out);
Status DecodePostings(std::string_view page, const Symbols& symbols, uint32_t series_count, LabelIndex* out);

// The position of a string that is among them.
uint64_t SymbolNumber(const Symbols& symbols, std::string_view symbol);

}  // namespace millstream::tsdb
