// Records of topics and groups, their snapshot, and filters: what decodes is encoded to the same meaning again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "filter.h"
#include "meta_record.h"
#include "millstream/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: {
      const auto change = millstream::events::DecodeChange(bytes);
      if (!change.ok()) return 0;
      const auto twice = millstream::events::DecodeChange(millstream::events::EncodeChange(*change));
      MS_CHECK(twice.ok() && *twice == *change);
      return 0;
    }
    case 1: {
      const auto snapshot = millstream::events::DecodeSnapshot(bytes);
      if (!snapshot.ok()) return 0;
      MS_CHECK(millstream::events::DecodeSnapshot(millstream::events::EncodeSnapshot(*snapshot)).ok());
      return 0;
    }
    default: {
      // Half filter, half payload.
      millstream::events::EventView view;
      view.is_json = true;
      view.payload = bytes.substr(bytes.size() / 2);
      const auto event = millstream::events::StoredEvent::Make(millstream::events::EncodeEvent(view));
      const auto filter = millstream::events::Filter::Parse(bytes.substr(0, bytes.size() / 2));
      if (filter.ok() && event.ok()) (void)(*filter)->Matches("topic", (*event)->view());
      return 0;
    }
  }
}
