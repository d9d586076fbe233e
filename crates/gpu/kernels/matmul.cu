// Weights times many inputs, in tiles: the same bits as linear.cu.
#include "linear.cuh"
#include "matmul.cuh"

// Inputs of a block.
#define MATMUL_INPUTS 64

// Block (x, y): the x-th tile of weight rows, the y-th tile of inputs.
KERNEL_OF(MATMUL_THREADS, 3, matmul_64, LinearArgs) {
    SHARED(TileShared<MATMUL_INPUTS / 8>, shared);
    int block = blockIdx.x, index = 0;
    while (block >= args.first_block[index + 1]) index++;
    const LinearPart& part = args.part[index];
    const Matrix& w = part.weight;
    int first_row = (block - args.first_block[index]) * TILE_ROWS;
    int first_input = blockIdx.y * MATMUL_INPUTS, count = smaller(MATMUL_INPUTS, args.rows - first_input);
    // Beyond the end of the weight a thread brings its last row.
    int row = smaller(first_row + tile_slot(), w.rows - 1);
    float total[MATMUL_INPUTS / 8][4];
    multiply_any(w, row, args.in, first_input + tile_slot(), count, shared, total);
#pragma unroll
    for (int n = 0; n < MATMUL_INPUTS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int out = first_row + tile_row(i), to = tile_input(n, i);
            if (out < w.rows && to < count) part.out[static_cast<u64>(first_input + to) * w.rows + out] = total[n][i];
        }
    }
}
