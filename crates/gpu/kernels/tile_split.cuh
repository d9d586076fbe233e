// Products of tiles of 16-bit floats on tensor cores.
#pragma once
#include "split.cuh"
#include "tile.cuh"

#ifdef HAS_BF16_PRODUCTS
#define SPLIT_RUNS (SEGMENT / 8)
// Of a weight, at most: f16 ones have two.
#define WEIGHT_PARTS (HAS_FORMAT(1) ? 2 : 1)

// A segment: of weights each part, of inputs both. Rows lie close together, their runs in `place`s.
template <int EIGHTS>
struct SplitShared {
    alignas(16) u32 weights[WEIGHT_PARTS][TILE_ROWS][SPLIT_RUNS * 4];
    alignas(16) u32 inputs[2][EIGHTS * 8][SPLIT_RUNS * 4];
};

// The words of a run in its row. Eight lanes that write a run of eight rows, or read all runs of two, do so in
// different banks.
DEVICE int place(int row, int run) { return (run ^ row / 2 % SPLIT_RUNS) * 4; }

DEVICE void put(u32* at, const u32 (&words)[4]) {
    uint4 v = {words[0], words[1], words[2], words[3]};
    store16(at, v);
}

DEVICE void get(const u32* at, u32 (&words)[4]) {
    uint4 v = load16(at);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}

// `row` and `input` are those of this thread's slot, `cols` the values of the row. All threads of the block call it.
template <class P, int EIGHTS>
DEVICE void multiply_split(const u8* row, int cols, const Inputs& in, u64 input, int count,
                           SplitShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    int lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4, slot = tile_slot();
    const float* x = in.values + input * in.cols;
    bool is_aligned = in.cols % 4 == 0;
    float strand[EIGHTS][4];
    for (int s = 0; s < SPLIT_STRANDS; s++) {
        clear(strand);
#pragma unroll 1
        for (int first = s * SEGMENT; first < cols; first += SPLIT_STRANDS * SEGMENT) {
            sync_block();
#pragma unroll
            for (int i = 0; i < SPLIT_RUNS / DEPTH; i++) {
                int run = threadIdx.x / TILE_ROWS * (SPLIT_RUNS / DEPTH) + i, at = first + run * 8;
                u32 parts[P::PARTS][4];
                bring_weights<P>(row, at, cols - at, parts);
#pragma unroll
                for (int p = 0; p < P::PARTS; p++) put(&shared.weights[p][slot][place(slot, run)], parts[p]);
                if (slot < count) {
                    u32 values[2][4];
                    bring_inputs(x + at, is_aligned, cols - at, values);
                    put(&shared.inputs[0][slot][place(slot, run)], values[0]);
                    put(&shared.inputs[1][slot][place(slot, run)], values[1]);
                }
            }
            sync_block();
            int low = tile_row(0), high = tile_row(2);
            u32 weights[2][P::PARTS][4];
#pragma unroll
            for (int p = 0; p < P::PARTS; p++) {
                get(&shared.weights[p][low][place(low, in_quad)], weights[0][p]);
                get(&shared.weights[p][high][place(high, in_quad)], weights[1][p]);
            }
#pragma unroll
            for (int n = 0; n < EIGHTS; n++) {
                if (is_beyond<EIGHTS>(n, count)) break;
                int mine = n * 8 + quad;
                u32 values[2][4];
                get(&shared.inputs[0][mine][place(mine, in_quad)], values[0]);
                get(&shared.inputs[1][mine][place(mine, in_quad)], values[1]);
                multiply_runs<P>(weights[0], weights[1], values, strand[n]);
            }
        }
        add_strand(s, strand, total);
    }
}

#endif
