// What the stand-in driver asks of the shim.
#pragma once
#include "shim.h"

namespace shim {
// Null if there is none of that name.
const Kernel* find_kernel(const char* name);
// The order of threads and blocks follows from it.
void seed(unsigned number);
void launch(const Kernel& kernel, Index3 grid, Index3 block, const void* args);
}  // namespace shim
