#include "arrow_export.h"

#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "millstream/model/labels.h"

// The names and the order of members are the interface's.
extern "C" {
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream*, struct ArrowSchema* out);
  int (*get_next)(struct ArrowArrayStream*, struct ArrowArray* out);
  const char* (*get_last_error)(struct ArrowArrayStream*);
  void (*release)(struct ArrowArrayStream*);
  void* private_data;
};
}

namespace millstream::pybind {

namespace py = pybind11;

namespace {

constexpr int64_t kNullable = 2;
constexpr const char* kStreamName = "arrow_array_stream";

// A column in memory, before it is handed over.
struct ColumnData {
  std::string name;
  std::string format;
  std::vector<uint8_t> validity;  // a bit a row; empty when no row is null
  int64_t nulls = 0;
  std::vector<int32_t> codes;  // of dictionary columns
  std::vector<int64_t> times;
  std::vector<double> values;
  std::string text;  // of the dictionary
  std::vector<int32_t> text_offsets;
};

struct Table {
  int64_t rows = 0;
  std::vector<ColumnData> columns;
};

template <typename Visit>
void ForEachSeries(const promql::QueryResult& result, Visit visit) {
  if (const auto* matrix = std::get_if<promql::Matrix>(&result.value)) {
    for (const promql::MatrixSeries& series : *matrix) visit(series.labels, series.timestamps, series.values);
  } else if (const auto* vector = std::get_if<promql::Vector>(&result.value)) {
    for (const promql::VectorSample& sample : *vector) {
      if (sample.histogram != nullptr) continue;
      visit(sample.labels, std::vector<TimestampMs>{sample.timestamp}, std::vector<double>{sample.value});
    }
  } else if (const auto* scalar = std::get_if<promql::Scalar>(&result.value)) {
    visit(model::Labels(), std::vector<TimestampMs>{scalar->timestamp}, std::vector<double>{scalar->value});
  }
}

ColumnData LabelColumn(const promql::QueryResult& result, const std::string& label, int64_t rows) {
  ColumnData column;
  column.name = label == "time" || label == "value" ? "label_" + label : label;
  column.format = "i";
  column.codes.reserve(static_cast<size_t>(rows));
  std::map<std::string, int32_t, std::less<>> code_of;
  std::vector<std::string_view> texts;
  ForEachSeries(result, [&](const model::Labels& labels, const auto& timestamps, const auto& /*values*/) {
    const std::string_view value = labels.Get(label);
    int32_t code = -1;
    if (!value.empty()) {
      const auto [found, inserted] = code_of.try_emplace(std::string(value), static_cast<int32_t>(texts.size()));
      if (inserted) texts.push_back(found->first);
      code = found->second;
    }
    column.codes.insert(column.codes.end(), timestamps.size(), code);
    if (code < 0) column.nulls += static_cast<int64_t>(timestamps.size());
  });
  if (column.nulls > 0) {
    column.validity.assign((column.codes.size() + 7) / 8, 0);
    for (size_t i = 0; i < column.codes.size(); ++i) {
      if (column.codes[i] >= 0) {
        column.validity[i / 8] = static_cast<uint8_t>(column.validity[i / 8] | (1u << (i % 8)));
      } else {
        column.codes[i] = 0;
      }
    }
  }
  column.text_offsets.push_back(0);
  for (const std::string_view text : texts) {
    column.text += text;
    column.text_offsets.push_back(static_cast<int32_t>(column.text.size()));
  }
  return column;
}

std::shared_ptr<const Table> MakeTable(const promql::QueryResult& result) {
  auto table = std::make_shared<Table>();
  std::set<std::string> names;
  ColumnData times;
  times.name = "time";
  times.format = "tsm:UTC";
  ColumnData values;
  values.name = "value";
  values.format = "g";
  ForEachSeries(result, [&](const model::Labels& labels, const auto& timestamps, const auto& samples) {
    for (const model::Label label : labels) names.emplace(label.name);
    times.times.insert(times.times.end(), timestamps.begin(), timestamps.end());
    values.values.insert(values.values.end(), samples.begin(), samples.end());
  });
  table->rows = static_cast<int64_t>(times.times.size());
  for (const std::string& name : names) table->columns.push_back(LabelColumn(result, name, table->rows));
  table->columns.push_back(std::move(times));
  table->columns.push_back(std::move(values));
  return table;
}

// What an exported structure keeps alive. Children are released by their parent.
struct SchemaHolder {
  std::string format;
  std::string name;
  std::vector<ArrowSchema> nodes;
  std::vector<ArrowSchema*> children;
  ArrowSchema dictionary = {};
};

struct ArrayHolder {
  std::shared_ptr<const Table> table;
  std::vector<const void*> buffers;
  std::vector<ArrowArray> nodes;
  std::vector<ArrowArray*> children;
  ArrowArray dictionary = {};
};

template <typename Node, typename Holder>
void Release(Node* node) {
  for (int64_t i = 0; i < node->n_children; ++i) {
    if (node->children[i]->release != nullptr) node->children[i]->release(node->children[i]);
  }
  if (node->dictionary != nullptr && node->dictionary->release != nullptr) {
    node->dictionary->release(node->dictionary);
  }
  delete static_cast<Holder*>(node->private_data);
  node->release = nullptr;
}

SchemaHolder* InitSchema(const std::string& format, const std::string& name, ArrowSchema* out) {
  auto* holder = new SchemaHolder;
  holder->format = format;
  holder->name = name;
  *out = {.format = holder->format.c_str(),
          .name = holder->name.c_str(),
          .metadata = nullptr,
          .flags = kNullable,
          .n_children = 0,
          .children = nullptr,
          .dictionary = nullptr,
          .release = Release<ArrowSchema, SchemaHolder>,
          .private_data = holder};
  return holder;
}

ArrayHolder* InitArray(std::shared_ptr<const Table> table, int64_t length, std::vector<const void*> buffers,
                       ArrowArray* out) {
  auto* holder = new ArrayHolder;
  holder->table = std::move(table);
  holder->buffers = std::move(buffers);
  *out = {.length = length,
          .null_count = 0,
          .offset = 0,
          .n_buffers = static_cast<int64_t>(holder->buffers.size()),
          .n_children = 0,
          .buffers = holder->buffers.data(),
          .children = nullptr,
          .dictionary = nullptr,
          .release = Release<ArrowArray, ArrayHolder>,
          .private_data = holder};
  return holder;
}

void ExportSchema(const Table& table, ArrowSchema* out) {
  SchemaHolder* root = InitSchema("+s", "", out);
  root->nodes.resize(table.columns.size());
  for (size_t i = 0; i < table.columns.size(); ++i) {
    SchemaHolder* column = InitSchema(table.columns[i].format, table.columns[i].name, &root->nodes[i]);
    if (table.columns[i].format == "i") {
      InitSchema("u", "", &column->dictionary);
      root->nodes[i].dictionary = &column->dictionary;
    }
    root->children.push_back(&root->nodes[i]);
  }
  out->n_children = static_cast<int64_t>(root->children.size());
  out->children = root->children.data();
}

void ExportArray(const std::shared_ptr<const Table>& table, ArrowArray* out) {
  ArrayHolder* root = InitArray(table, table->rows, {nullptr}, out);
  root->nodes.resize(table->columns.size());
  for (size_t i = 0; i < table->columns.size(); ++i) {
    const ColumnData& column = table->columns[i];
    const void* validity = column.validity.empty() ? nullptr : column.validity.data();
    const void* data = !column.codes.empty()  ? static_cast<const void*>(column.codes.data())
                       : column.format == "g" ? static_cast<const void*>(column.values.data())
                                              : static_cast<const void*>(column.times.data());
    ArrayHolder* holder = InitArray(table, table->rows, {validity, data}, &root->nodes[i]);
    root->nodes[i].null_count = column.nulls;
    if (column.format == "i") {
      InitArray(table, static_cast<int64_t>(column.text_offsets.size()) - 1,
                {nullptr, column.text_offsets.data(), column.text.data()}, &holder->dictionary);
      root->nodes[i].dictionary = &holder->dictionary;
    }
    root->children.push_back(&root->nodes[i]);
  }
  out->n_children = static_cast<int64_t>(root->children.size());
  out->children = root->children.data();
}

// A stream of one batch.
struct StreamState {
  std::shared_ptr<const Table> table;
  bool done = false;
};

StreamState& StateOf(ArrowArrayStream* stream) {
  return *static_cast<StreamState*>(stream->private_data);
}

void DestroyStreamCapsule(PyObject* capsule) {
  auto* stream = static_cast<ArrowArrayStream*>(PyCapsule_GetPointer(capsule, kStreamName));
  if (stream->release != nullptr) stream->release(stream);
  delete stream;
}

}  // namespace

py::capsule ArrowStream(const promql::QueryResult& result) {
  auto stream = std::make_unique<ArrowArrayStream>();
  stream->private_data = new StreamState{.table = MakeTable(result)};
  stream->get_schema = [](ArrowArrayStream* self, ArrowSchema* out) {
    ExportSchema(*StateOf(self).table, out);
    return 0;
  };
  stream->get_next = [](ArrowArrayStream* self, ArrowArray* out) {
    StreamState& state = StateOf(self);
    if (state.done) {
      *out = {};
    } else {
      ExportArray(state.table, out);
      state.done = true;
    }
    return 0;
  };
  stream->get_last_error = [](ArrowArrayStream* /*self*/) -> const char* { return nullptr; };
  stream->release = [](ArrowArrayStream* self) {
    delete &StateOf(self);
    self->release = nullptr;
  };
  PyObject* capsule = PyCapsule_New(stream.get(), kStreamName, DestroyStreamCapsule);
  if (capsule == nullptr) throw py::error_already_set();
  stream.release();  // NOLINT(bugprone-unused-return-value): the capsule owns it now
  return py::reinterpret_steal<py::capsule>(capsule);
}

}  // namespace millstream::pybind
