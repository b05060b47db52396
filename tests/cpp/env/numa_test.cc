#include "millstream/env/numa.h"

#include <gtest/gtest.h>

#include <cstring>

namespace millstream::env {
namespace {

TEST(Numa, WithoutTheLibraryEverythingIsNodeZeroAndMemoryIsTheOrdinaryOne) {
  const Numa numa("libnuma-that-there-is-not.so.1");
  EXPECT_FALSE(numa.available());
  EXPECT_EQ(numa.nodes(), 1);
  EXPECT_EQ(numa.NodeOfCpu(0), 0);
  EXPECT_EQ(numa.NodeOfCpu(77), 0);
  EXPECT_EQ(numa.MemoryOf(0), std::pmr::new_delete_resource());
  EXPECT_EQ(numa.MemoryOf(5), std::pmr::new_delete_resource());
}

TEST(Numa, ALibraryThatLacksTheFunctionsMeansOneNode) {
  const Numa numa("libm.so.6");
  EXPECT_FALSE(numa.available());
  EXPECT_EQ(numa.nodes(), 1);
}

TEST(Numa, OnTwoNodesMemoryIsOfTheNodeThatWasAskedFor) {
  const Numa numa(MILLSTREAM_FAKE_NUMA);
  ASSERT_TRUE(numa.available());
  EXPECT_EQ(numa.nodes(), 2);
  EXPECT_EQ(numa.NodeOfCpu(3), 0);
  EXPECT_EQ(numa.NodeOfCpu(4), 1);
  EXPECT_EQ(numa.NodeOfCpu(8), 0);
  EXPECT_EQ(numa.NodeOfCpu(-1), 0);
  for (int node = 0; node < 2; ++node) {
    std::pmr::memory_resource* const resource = numa.MemoryOf(node);
    auto* const memory = static_cast<char*>(resource->allocate(100'000, 64));
    EXPECT_EQ(memory[0], '0' + node);
    std::memset(memory, 1, 100'000);
    resource->deallocate(memory, 100'000, 64);
  }
  EXPECT_FALSE(numa.MemoryOf(0)->is_equal(*numa.MemoryOf(1)));
  EXPECT_EQ(numa.MemoryOf(2), std::pmr::new_delete_resource());
}

TEST(Numa, ThisMachineHasANodeForEachCpu) {
  const Numa& numa = Numa::System();
  ASSERT_GE(numa.nodes(), 1);
  EXPECT_LT(numa.NodeOfCpu(0), numa.nodes());
  std::pmr::memory_resource* const resource = numa.MemoryOf(numa.NodeOfCpu(0));
  void* const memory = resource->allocate(1 << 20, 64);
  std::memset(memory, 1, 1 << 20);
  resource->deallocate(memory, 1 << 20, 64);
}

}  // namespace
}  // namespace millstream::env
