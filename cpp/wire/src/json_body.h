// What the readers of JSON bodies have in common: how a body is opened, and that nothing follows its end.
#pragma once

#include <simdjson.h>

#include <string_view>

#include "millstream/base/status.h"

namespace millstream::wire {

inline Status NotJson(simdjson::error_code error) {
  return InvalidArgument("the body is not JSON: {}", simdjson::error_message(error));
}

// What a reader says about a body that it gave up on, or where the body stops being JSON if that is why. Reads the
// whole body once more.
Status Explain(std::string_view text, Status status);

// Threads     One.
// Ownership   Keeps a copy of the text; what is read from document() lives no longer than this.
class JsonBody {
 public:
  JsonBody();

  // kResourceExhausted: more than kJsonBytesMax, or no memory for it.
  Status Open(std::string_view text);

  simdjson::ondemand::document& document() { return document_; }

  // kInvalidArgument when the document was read to its end and something follows.
  Status CheckEnd();

 private:
  simdjson::ondemand::parser parser_;
  simdjson::padded_string padded_;
  simdjson::ondemand::document document_;
};

}  // namespace millstream::wire
