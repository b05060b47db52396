// Numa: memory near the CPU that uses it, on machines whose memory has several nodes.
//
// Uses libnuma when it is there at run time and the kernel has NUMA; else, and on a machine with one node, everything
// is node 0 and memory is the ordinary one.
//
// Threads     All functions from any thread.
// Errors      None: what is not known is node 0.
#pragma once

#include <memory>
#include <memory_resource>
#include <string>
#include <vector>

namespace millstream::env {

class Numa {
 public:
  // Of this machine, made at its first use; lives as long as the process.
  static const Numa& System();
  // With another library in libnuma's place; one that is not there or lacks a function means one node.
  explicit Numa(const std::string& library);
  ~Numa();
  Numa(const Numa&) = delete;
  Numa& operator=(const Numa&) = delete;

  // Whether libnuma answers, also where there is but one node.
  bool available() const { return functions_ != nullptr; }
  int nodes() const { return nodes_; }
  // The node of a CPU, counted from 0; 0 for a CPU that there is not.
  int NodeOfCpu(int cpu) const;
  // Memory of that node, as long as it has some, else of another; whole pages for each piece, so for large pieces. The
  // ordinary memory where there is one node. Lives as long as this object.
  std::pmr::memory_resource* MemoryOf(int node) const;

 private:
  struct Functions;
  class NodeMemory;

  std::unique_ptr<Functions> functions_;
  int nodes_ = 1;
  std::vector<std::unique_ptr<NodeMemory>> memory_;
};

}  // namespace millstream::env
