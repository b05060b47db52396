// Load: writes the series of a `load` command into a store.
#pragma once

#include "millstream/promqltest/promqltest.h"
#include "script.h"

namespace millstream::promqltest {

// One transaction. With load_with_nhcb, classic histograms are written a second time as native ones with custom
// buckets; their series join *written.
Status LoadSeries(const LoadCommand& load, Store* store, std::vector<LoadedSeries>* written);

}  // namespace millstream::promqltest
