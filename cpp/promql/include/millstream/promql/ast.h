// The syntax tree of a PromQL expression, as the parser makes it and the planner reads it.
//
// Invariants  Every node has its type and the bytes of the query that it came from. After a successful parse the tree
//             is type-checked: children have the types that their parent needs, calls the right number of arguments.
// Ownership   A node owns its children. Trees are at most kExpressionDepthMax deep, so recursion over them is safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/strong_int.h"
#include "millstream/model/matcher.h"

namespace millstream::promql {

inline constexpr int kExpressionDepthMax = 1000;

// Byte offsets into the query text, half open.
struct PositionRange {
  int32_t start = 0;
  int32_t end = 0;
};

enum class ValueType : uint8_t { kNone, kScalar, kVector, kMatrix, kString };

// "scalar", "instant vector", "range vector", "string": as error messages name them.
std::string_view ValueTypeName(ValueType type);

enum class ExprKind : uint8_t {
  kNumberLiteral,
  kStringLiteral,
  kVectorSelector,
  kMatrixSelector,
  kSubquery,
  kUnary,
  kBinary,
  kAggregate,
  kCall,
  kParen,
};

struct Expr {
  Expr(ExprKind expr_kind, ValueType value_type) : kind(expr_kind), type(value_type) {}
  virtual ~Expr() = default;

  const ExprKind kind;
  ValueType type;
  PositionRange position;
  int height = 1;  // nodes on the longest way down, this one included
};

using ExprPtr = std::unique_ptr<Expr>;

// An arithmetic expression of durations, such as [5m + step()]. Leaves are numbers of seconds or the query's figures.
struct DurationExpr {
  enum class Op : uint8_t {
    kNumber,
    kStep,   // step()
    kRange,  // range(): end minus start of the query
    kNegate,
    kAdd,
    kSub,
    kMul,
    kDiv,
    kMod,
    kPow,
    kMin,  // min_of(a, b)
    kMax,  // max_of(a, b)
    kParen,
  };
  Op op = Op::kNumber;
  double seconds = 0;              // kNumber
  bool number_is_duration = true;  // kNumber: written as 5m rather than 300, for printing
  std::unique_ptr<DurationExpr> left;
  std::unique_ptr<DurationExpr> right;
  PositionRange position;
  int height = 1;
};

// A duration that is known when parsed (expr is null), or has to be resolved with the query's step and range.
struct Duration {
  int64_t ms = 0;
  std::unique_ptr<DurationExpr> expr;
};

enum class AtPreprocessor : uint8_t { kNone, kStart, kEnd };

struct NumberLiteral final : Expr {
  explicit NumberLiteral(double literal) : Expr(ExprKind::kNumberLiteral, ValueType::kScalar), value(literal) {}
  double value;
  bool is_duration = false;  // written as a duration, such as 5m
};

struct StringLiteral final : Expr {
  explicit StringLiteral(std::string literal)
      : Expr(ExprKind::kStringLiteral, ValueType::kString), value(std::move(literal)) {}
  std::string value;
};

struct VectorSelector final : Expr {
  VectorSelector() : Expr(ExprKind::kVectorSelector, ValueType::kVector) {}
  std::string name;  // the metric name before the braces, or empty; matchers includes its matcher too
  std::vector<model::Matcher> matchers;
  Duration offset;
  std::optional<TimestampMs> at;
  AtPreprocessor at_preprocessor = AtPreprocessor::kNone;
  bool anchored = false;
  bool smoothed = false;
};

struct MatrixSelector final : Expr {
  MatrixSelector() : Expr(ExprKind::kMatrixSelector, ValueType::kMatrix) {}
  std::unique_ptr<VectorSelector> selector;  // carries offset and @ for the whole
  Duration range;
};

struct SubqueryExpr final : Expr {
  SubqueryExpr() : Expr(ExprKind::kSubquery, ValueType::kMatrix) {}
  ExprPtr expr;
  Duration range;
  Duration step;  // 0 without expr: the default step
  Duration offset;
  std::optional<TimestampMs> at;
  AtPreprocessor at_preprocessor = AtPreprocessor::kNone;
};

struct UnaryExpr final : Expr {
  UnaryExpr() : Expr(ExprKind::kUnary, ValueType::kNone) {}
  bool negate = false;  // false: unary plus
  ExprPtr expr;
};

enum class BinaryOp : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMod,
  kPow,
  kAtan2,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kAnd,
  kOr,
  kUnless,
  kTrimUpper,  // </
  kTrimLower,  // >/
};

std::string_view BinaryOpSymbol(BinaryOp op);
bool IsComparison(BinaryOp op);
bool IsSetOperator(BinaryOp op);

enum class MatchCardinality : uint8_t { kOneToOne, kManyToOne, kOneToMany, kManyToMany };

// How the two sides of a vector operation find each other. Present when both sides are vectors.
struct VectorMatching {
  MatchCardinality cardinality = MatchCardinality::kOneToOne;
  bool on = false;                   // labels are those to match on, rather than to ignore
  std::vector<std::string> labels;   // on(…) or ignoring(…)
  std::vector<std::string> include;  // group_left(…) or group_right(…)
  std::optional<double> fill_left;
  std::optional<double> fill_right;
};

struct BinaryExpr final : Expr {
  BinaryExpr() : Expr(ExprKind::kBinary, ValueType::kNone) {}
  BinaryOp op = BinaryOp::kAdd;
  ExprPtr left;
  ExprPtr right;
  std::unique_ptr<VectorMatching> matching;  // null unless both sides are vectors
  bool return_bool = false;
};

enum class AggregateOp : uint8_t {
  kSum,
  kAvg,
  kMin,
  kMax,
  kCount,
  kGroup,
  kStddev,
  kStdvar,
  kTopK,
  kBottomK,
  kCountValues,
  kQuantile,
  kLimitK,
  kLimitRatio,
};

std::string_view AggregateOpName(AggregateOp op);

struct AggregateExpr final : Expr {
  AggregateExpr() : Expr(ExprKind::kAggregate, ValueType::kVector) {}
  AggregateOp op = AggregateOp::kSum;
  ExprPtr expr;
  ExprPtr param;  // of topk, bottomk, count_values, quantile, limitk and limit_ratio; else null
  std::vector<std::string> grouping;
  bool without = false;
};

struct FunctionSignature;  // functions.h

struct Call final : Expr {
  explicit Call(const FunctionSignature& signature);
  const FunctionSignature* function;
  std::vector<ExprPtr> args;
};

struct ParenExpr final : Expr {
  ParenExpr() : Expr(ExprKind::kParen, ValueType::kNone) {}
  ExprPtr expr;
};

// `expr` without the parentheses around it.
const Expr& StripParens(const Expr& expr);

}  // namespace millstream::promql
