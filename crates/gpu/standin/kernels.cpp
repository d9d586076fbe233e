// All kernels in one library.
#include "attention.cu"
#include "delta.cu"
#include "experts.cu"
#include "linear.cu"
#include "matmul.cu"
#include "norm.cu"
#include "repack.cu"
#include "rows.cu"
