// Quantised weights times many inputs, on tensor cores. Its sums are those of dot.cuh, term by term and in
// the same order, so an input's products are the same bits here and there.
#include "linear.cuh"

#define MATMUL_THREADS 128
// Weight rows and inputs of a block; each warp has 16 of the rows.
#define TILE_ROWS 64
#define TILE_INPUTS 64
// Groups of a strand that are in shared memory at once.
#define DEPTH 2
#define EIGHTS (TILE_INPUTS / 8)

// Codes are padded by a word a row, so that lanes find them in different banks.
struct MatmulShared {
    u32 weights[DEPTH][TILE_ROWS][9], inputs[DEPTH][TILE_INPUTS][9];
    Factors factors[DEPTH][TILE_ROWS];
    GroupScale scales[DEPTH][TILE_INPUTS];
};

// Block (x, y): the x-th tile of weight rows, the y-th tile of inputs.
template <class F>
DEVICE void matmul(const LinearArgs& args, const Matrix& w, float* out, int first_row, MatmulShared& shared) {
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    int quad = lane / 4, in_quad = lane % 4, groups = w.cols / GROUP, first_input = blockIdx.y * TILE_INPUTS;
    // What this thread brings: a group of a row and of an input. Beyond the end it brings the last one.
    int depth = thread / TILE_ROWS, slot = thread % TILE_ROWS;
    Row planes = row_of<F>(w, smaller(first_row + slot, w.rows - 1));
    u64 input = smaller(first_input + slot, args.rows - 1);
    float total[EIGHTS][4], strand[EIGHTS][4];
    for (int s = 0; s < TEAM; s++) {
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) strand[n][i] = 0.0f;
        }
#pragma unroll 1
        for (int g = s; g < groups; g += DEPTH * TEAM) {
            sync_block();
            int mine = g + depth * TEAM;
            if (mine < groups) {
                int q[8];
                shared.factors[depth][slot] = F::load(planes, mine, q);
                u64 group = input * (args.in.cols / GROUP) + mine;
                uint4 a = load16(args.in.codes + group * 8), b = load16(args.in.codes + group * 8 + 4);
                const u32 x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
                shared.scales[depth][slot] = args.in.scales[group];
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    shared.weights[depth][slot][i] = static_cast<u32>(q[i]);
                    shared.inputs[depth][slot][i] = x[i];
                }
            }
            sync_block();
#pragma unroll 1
            for (int d = 0; d < DEPTH && g + d * TEAM < groups; d++) {
                int low = warp * 16 + quad, high = low + 8;
                const u32(&a)[TILE_ROWS][9] = shared.weights[d];
                Factors factors[2] = {shared.factors[d][low], shared.factors[d][high]};
#pragma unroll
                for (int n = 0; n < EIGHTS; n++) {
                    const u32(&b)[9] = shared.inputs[d][n * 8 + quad];
                    int first[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
                    multiply_16x8x16(first, a[low][in_quad], a[high][in_quad], b[in_quad]);
                    multiply_16x8x16(second, a[low][4 + in_quad], a[high][4 + in_quad], b[4 + in_quad]);
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        GroupScale x = shared.scales[d][n * 8 + in_quad * 2 + i % 2];
                        float value = group_value<F>(factors[i / 2], first[i], second[i], x);
                        strand[n][i] = fmaf(value, x.scale, strand[n][i]);
                    }
                }
            }
        }
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) total[n][i] = s == 0 ? strand[n][i] : total[n][i] + strand[n][i];
        }
    }
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = first_row + warp * 16 + quad + i / 2 * 8;
            int to = first_input + n * 8 + in_quad * 2 + i % 2;
            if (row < w.rows && to < args.rows) out[static_cast<u64>(to) * w.rows + row] = total[n][i];
        }
    }
}

KERNEL_OF(MATMUL_THREADS, 2, matmul_64, LinearArgs args) {
    SHARED(MatmulShared, shared);
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
