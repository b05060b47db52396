// The table of PromQL's functions: names, arguments, result, and whether a function is experimental.
//
// Source      Prometheus 3.14's function table.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "millstream/promql/ast.h"

namespace millstream::promql {

struct FunctionSignature {
  std::string_view name;
  std::vector<ValueType> args;
  // 0: exactly args. n > 0: the last argument may occur 0 to n times. -1: any number of times, none included.
  int variadic = 0;
  ValueType result = ValueType::kVector;
  bool experimental = false;
};

// Null when there is no such function. The reference lives as long as the program.
const FunctionSignature* FindFunction(std::string_view name);
std::span<const FunctionSignature> AllFunctions();

}  // namespace millstream::promql
