#include "millstream/env/numa.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>

#include "millstream/base/check.h"

namespace millstream::env {
namespace {

// Its second name would be that of the package for developers.
constexpr const char* kLibrary = "libnuma.so.1";

template <typename Function>
bool Find(void* library, const char* name, Function** out) {
  *out = reinterpret_cast<Function*>(dlsym(library, name));
  return *out != nullptr;
}

}  // namespace

// As numa(3) has them. Loaded at run time and not linked, so that the library may be absent.
struct Numa::Functions {
  int (*available)() = nullptr;
  int (*max_node)() = nullptr;
  int (*node_of_cpu)(int) = nullptr;
  void* (*alloc_onnode)(size_t, int) = nullptr;
  void (*free)(void*, size_t) = nullptr;
};

class Numa::NodeMemory final : public std::pmr::memory_resource {
 public:
  NodeMemory(const Functions& functions, int node) : functions_(functions), node_(node) {}

 private:
  void* do_allocate(size_t bytes, size_t /*alignment: a page is more than any*/) override {
    void* memory = functions_.alloc_onnode(std::max<size_t>(bytes, 1), node_);
    MS_CHECK(memory != nullptr);  // out of memory, as with any other allocation
    return memory;
  }
  void do_deallocate(void* memory, size_t bytes, size_t /*alignment*/) override {
    functions_.free(memory, std::max<size_t>(bytes, 1));
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  const Functions& functions_;
  const int node_;
};

const Numa& Numa::System() {
  // Never destroyed: memory of it may still be used while the process exits.
  static const Numa& numa = *new Numa(kLibrary);
  return numa;
}

Numa::Numa(const std::string& library) {
  // Never closed: a library that is loaded stays for the process.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return;
  auto functions = std::make_unique<Functions>();
  const bool found =
      Find(handle, "numa_available", &functions->available) && Find(handle, "numa_max_node", &functions->max_node) &&
      Find(handle, "numa_node_of_cpu", &functions->node_of_cpu) &&
      Find(handle, "numa_alloc_onnode", &functions->alloc_onnode) && Find(handle, "numa_free", &functions->free);
  if (!found || functions->available() < 0) return;
  functions_ = std::move(functions);
  nodes_ = std::max(0, functions_->max_node()) + 1;
  for (int node = 0; node < nodes_; ++node) memory_.push_back(std::make_unique<NodeMemory>(*functions_, node));
}

Numa::~Numa() = default;

int Numa::NodeOfCpu(int cpu) const {
  if (functions_ == nullptr || cpu < 0) return 0;
  const int node = functions_->node_of_cpu(cpu);
  return node >= 0 && node < nodes_ ? node : 0;
}

std::pmr::memory_resource* Numa::MemoryOf(int node) const {
  if (nodes_ == 1 || node < 0 || node >= nodes_) return std::pmr::new_delete_resource();
  return memory_[static_cast<size_t>(node)].get();
}

}  // namespace millstream::env
