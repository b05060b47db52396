// TopicSchema: the JSON Schema that the payloads of a topic's events must match.
//
// Drafts      "$schema" says draft-07 or 2020-12; without it what either knows is understood. Unknown keywords,
//             "format" and other annotations check nothing. References lead within the schema only; nothing is ever
//             fetched. Refused when it is compiled: "unevaluatedItems", "unevaluatedProperties", "$dynamicRef" and its
//             like, an embedded "$id", references that only lead to each other, patterns that RE2 does not take.
// Numbers     Compared exactly, and multiples taken of the decimals that were written, not of their binary neighbours.
// Threads     Values that share what was compiled, which is immutable: Check may be called from any thread.
// Cost        Compile: once for each change of a topic. Check: one pass of simdjson, then a step for each value and
//             keyword that looks at it, at most kSchemaStepsMin + kSchemaStepsPerByte * bytes. It allocates for what
//             does not match, and for "uniqueItems", "propertyNames" and more than 64 "required".
// Errors      kInvalidArgument: of a schema with the JSON pointer of what is wrong in it, of a payload with the pointer
//             and the keyword that it does not match, or that checking it would take too many steps.
// Source      JSON Schema draft-07 and 2020-12, Core and Validation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millstream/base/result.h"

namespace millstream::events {

inline constexpr size_t kSchemaBytesMax = 64 << 10;
inline constexpr uint64_t kSchemaBytesTotalMax = 64 << 20;  // of all topics of a database together
inline constexpr size_t kSchemaNestingMax = 128;            // of arrays and objects in a schema's text
inline constexpr size_t kSchemaNodesMax = 4096;             // schemas within a schema
inline constexpr size_t kSchemaPatternsMax = 100;
inline constexpr int64_t kSchemaPatternMemoryBytes = 1 << 20;  // of each pattern: its program and RE2's cache
inline constexpr size_t kSchemaDepthMax = 2048;                // schemas that apply within each other to one payload
inline constexpr int64_t kSchemaStepsMin = 100'000;
inline constexpr int64_t kSchemaStepsPerByte = 64;

class TopicSchema {
 public:
  TopicSchema() = default;  // none: every event matches
  static Result<TopicSchema> Compile(std::string_view text);

  bool empty() const { return compiled_ == nullptr; }
  // As it was given.
  const std::string& text() const;
  // Also that it is JSON. There must be a schema.
  Status Check(std::string_view payload) const;

  friend bool operator==(const TopicSchema& a, const TopicSchema& b) { return a.text() == b.text(); }

 private:
  struct Compiled;
  friend class SchemaCompiler;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace millstream::events
