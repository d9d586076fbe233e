// Quantised weights times many inputs, on tensor cores: the same bits as linear.cu.
#include "linear.cuh"
#include "matmul.cuh"

// Inputs of a block.
#define MATMUL_INPUTS 64

// Block (x, y): the x-th tile of weight rows, the y-th tile of inputs.
template <class F>
DEVICE void matmul(const LinearArgs& args, const Matrix& w, float* out, int first_row,
                   MatmulShared<MATMUL_INPUTS / 8>& shared) {
    int first_input = blockIdx.y * MATMUL_INPUTS, count = smaller(MATMUL_INPUTS, args.rows - first_input);
    // Beyond the end of the weight a thread brings its last row.
    Row planes = row_of<F>(w, smaller(first_row + tile_slot(), w.rows - 1));
    float total[MATMUL_INPUTS / 8][4];
    multiply_tile<F>(planes, w.cols / GROUP, args.in, first_input + tile_slot(), count, shared, total);
#pragma unroll
    for (int n = 0; n < MATMUL_INPUTS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = first_row + tile_row(i), to = tile_input(n, i);
            if (row < w.rows && to < count) out[static_cast<u64>(first_input + to) * w.rows + row] = total[n][i];
        }
    }
}

KERNEL_OF(MATMUL_THREADS, 3, matmul_64, LinearArgs) {
    SHARED(MatmulShared<MATMUL_INPUTS / 8>, shared);
    int block = blockIdx.x, index = 0;
    while (block >= args.first_block[index + 1]) index++;
    const LinearPart& part = args.part[index];
    int first_row = (block - args.first_block[index]) * TILE_ROWS;
    switch (part.weight.format) {
#define QUANTISED(ID) case ID: matmul<Format<ID>>(args, part.weight, part.out, first_row, shared); break;
#include "quantised.cuh"
#undef QUANTISED
    }
}
