// The pages of a block's meta and index files from any bytes. The first byte chooses the page.
#include <cstdint>
#include <string_view>

#include "block_format.h"

namespace tsdb = millstream::tsdb;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view page(reinterpret_cast<const char*>(data) + 1, size - 1);
  const tsdb::Symbols symbols = {"__name__", "a", "b", "host", "up"};
  switch (data[0] % 5) {
    case 0:
      (void)tsdb::DecodeMeta(page);
      break;
    case 1:
      (void)tsdb::DecodeDirectory(page);
      break;
    case 2: {
      tsdb::Symbols decoded;
      (void)tsdb::DecodeSymbols(page, &decoded);
      break;
    }
    case 3: {
      std::vector<tsdb::BlockSeries> series;
      (void)tsdb::DecodeSeries(page, symbols, 1000, &series);
      break;
    }
    default: {
      tsdb::LabelIndex index;
      (void)tsdb::DecodePostings(page, symbols, 1000, &index);
      break;
    }
  }
  return 0;
}
