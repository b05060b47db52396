// What numa(3) has, for a machine of two nodes with CPUs 0 to 3 and 4 to 7. Memory says in its first byte of which node
// it is.
#include <cstddef>
#include <cstdlib>

extern "C" {

int numa_available() {
  return 0;
}
int numa_max_node() {
  return 1;
}
int numa_node_of_cpu(int cpu) {
  return cpu < 8 ? cpu / 4 : -1;
}
void* numa_alloc_onnode(size_t bytes, int node) {
  auto* memory = static_cast<char*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096));
  memory[0] = static_cast<char>('0' + node);
  return memory;
}
void numa_free(void* memory, size_t /*bytes*/) {
  std::free(memory);
}
}
