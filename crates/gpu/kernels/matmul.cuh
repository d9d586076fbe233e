// Products of a tile of weight rows with a tile of inputs, on tensor cores. The sums are those of dot.cuh,
// term by term and in the same order, so an input's products are the same bits here and there.
#pragma once
#include "dot.cuh"

#define MATMUL_THREADS 128
// Weight rows of a tile; each warp has 16 of them.
#define TILE_ROWS 64
// Groups of a strand that are in shared memory at once.
#define DEPTH (MATMUL_THREADS / TILE_ROWS)

// Codes are padded by a word a row, so that lanes find them in different banks.
template <int EIGHTS>
struct MatmulShared {
    u32 weights[DEPTH][TILE_ROWS][9], inputs[DEPTH][EIGHTS * 8][9];
    Factors factors[DEPTH][TILE_ROWS];
    GroupScale scales[DEPTH][EIGHTS * 8];
};

// The weight row of a tile, and the input, that a thread brings a group of at a time.
DEVICE int tile_slot() { return threadIdx.x % TILE_ROWS; }

// A lane's part of the products: `total[n][i]` is that of row `tile_row(i)` with input `tile_input(n, i)`.
DEVICE int tile_row(int i) { return threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4 + i / 2 * 8; }
DEVICE int tile_input(int n, int i) { return n * 8 + threadIdx.x % 4 * 2 + i % 2; }

// `planes` and `input` are those of this thread's slot; slots beyond `count` inputs are not looked at, nor are
// products of 16 inputs that are all beyond it worked out. All threads of the block call it.
template <class F, int EIGHTS>
DEVICE void multiply_tile(const Row& planes, int groups, const Inputs& in, u64 input, int count,
                          MatmulShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    int lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4;
    int depth = threadIdx.x / TILE_ROWS, slot = tile_slot();
    // Eights between which nothing is asked, so that products of the one hide the other's latency.
    const int TOGETHER = EIGHTS > 4 ? 2 : 1;
    float strand[EIGHTS][4];
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
#pragma unroll
                for (int i = 0; i < 8; i++) shared.weights[depth][slot][i] = static_cast<u32>(q[i]);
                if (slot < count) {
                    u64 group = input * (in.cols / GROUP) + mine;
                    uint4 a = load16(in.codes + group * 8), b = load16(in.codes + group * 8 + 4);
                    const u32 x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
                    shared.scales[depth][slot] = in.scales[group];
#pragma unroll
                    for (int i = 0; i < 8; i++) shared.inputs[depth][slot][i] = x[i];
                }
            }
            sync_block();
#pragma unroll 1
            for (int d = 0; d < DEPTH && g + d * TEAM < groups; d++) {
                int low = tile_row(0), high = tile_row(2);
                const u32(&a)[TILE_ROWS][9] = shared.weights[d];
                Factors factors[2] = {shared.factors[d][low], shared.factors[d][high]};
#pragma unroll
                for (int n = 0; n < EIGHTS; n++) {
                    if (n % TOGETHER == 0 && n * 8 >= count) break;
                    const u32(&b)[9] = shared.inputs[d][n * 8 + quad];
                    int first[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
                    multiply_16x8x16(first, a[low][in_quad], a[high][in_quad], b[in_quad]);
                    multiply_16x8x16(second, a[low][4 + in_quad], a[high][4 + in_quad], b[4 + in_quad]);
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        GroupScale x = shared.scales[d][tile_input(n, i)];
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
}
