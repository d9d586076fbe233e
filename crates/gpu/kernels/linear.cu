// Several weights times the same input: `out[i] = x W_i^T`, one launch for all of them.
#include "linear.cuh"

#define LINEAR_THREADS 128
// Weight rows of a block.
#define LINEAR_ROWS (LINEAR_THREADS / TEAM)

// Block (x, y): the x-th tile of weight rows, for the y-th R rows of input.
template <int R>
DEVICE void linear(const LinearArgs& args) {
    int block = blockIdx.x, index = 0;
    while (block >= args.first_block[index + 1]) index++;
    const LinearPart& part = args.part[index];
    int row = (block - args.first_block[index]) * LINEAR_ROWS + threadIdx.x / TEAM;
    // Teams beyond the end work on the last row and keep it to themselves: a warp stays together.
    bool writes = row < part.weight.rows;
    int at[R];
#pragma unroll
    for (int r = 0; r < R; r++) at[r] = smaller<int>(blockIdx.y * R + r, args.rows - 1);
    float products[R];
    dot<R>(part.weight, smaller(row, part.weight.rows - 1), args.in, at, products);
    int lane = threadIdx.x % TEAM;
#pragma unroll
    for (int r = 0; r < R; r++) {
        int to = blockIdx.y * R + r;
        if (writes && lane == r % TEAM && to < args.rows) {
            part.out[static_cast<u64>(to) * part.weight.rows + row] = products[r];
        }
    }
}

KERNEL_OF(LINEAR_THREADS, 4, linear_1, LinearArgs) { linear<1>(args); }
KERNEL_OF(LINEAR_THREADS, 3, linear_2, LinearArgs) { linear<2>(args); }
KERNEL_OF(LINEAR_THREADS, 3, linear_4, LinearArgs) { linear<4>(args); }
KERNEL_OF(LINEAR_THREADS, 3, linear_8, LinearArgs) { linear<8>(args); }
