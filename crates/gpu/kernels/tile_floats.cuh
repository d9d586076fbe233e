// Products of tiles of plain floats in f32, with the sums of `plain_strand` in dot.cuh: of F32 weights, and of those of
// 16 bits where tensor cores take no bf16.
#pragma once
#include "tile.cuh"

// Values of a row in shared memory at once: whole runs of plain floats, of one strand.
#define PLAIN_VALUES 16

// Rows are padded such that eights of them, and every second of eight, lie in different banks.
template <int EIGHTS>
struct PlainShared {
    alignas(16) float weights[TILE_ROWS][PLAIN_VALUES + 4];
    alignas(16) float inputs[EIGHTS * 8][PLAIN_VALUES + 4];
};

DEVICE void load_four(const float* at, float (&x)[4]) {
    uint4 v = load16(at);
    x[0] = bits_to_float(v.x), x[1] = bits_to_float(v.y), x[2] = bits_to_float(v.z), x[3] = bits_to_float(v.w);
}

// The first COUNT values of an input's run, of which `left` are there; the rest is not looked at.
template <int COUNT>
DEVICE void bring_values(const float* x, bool is_aligned, int left, float* to) {
    if (is_aligned && left >= COUNT) {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) *reinterpret_cast<uint4*>(to + i) = load16(x + i);
        return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        if (i < left) to[i] = x[i];
    }
}

// Adds the products of four values, from value `at` in shared memory on.
template <int EIGHTS>
DEVICE void multiply_four(const PlainShared<EIGHTS>& shared, int at, int count, float (&sums)[EIGHTS][4]) {
    float low[4], high[4];
    load_four(&shared.weights[tile_row(0)][at], low);
    load_four(&shared.weights[tile_row(2)][at], high);
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
        if (is_beyond<EIGHTS>(n, count)) break;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float x[4];
            load_four(&shared.inputs[tile_input(n, j)][at], x);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                sums[n][j] = fmaf(low[k], x[k], sums[n][j]);
                sums[n][2 + j] = fmaf(high[k], x[k], sums[n][2 + j]);
            }
        }
    }
}

// The same of less than four, at the end of a row.
template <int EIGHTS>
DEVICE void multiply_rest(const PlainShared<EIGHTS>& shared, int at, int left, int count, float (&sums)[EIGHTS][4]) {
#pragma unroll 1
    for (int k = at; k < at + left; k++) {
        float low = shared.weights[tile_row(0)][k], high = shared.weights[tile_row(2)][k];
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
            if (is_beyond<EIGHTS>(n, count)) break;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float x = shared.inputs[tile_input(n, j)][k];
                sums[n][j] = fmaf(low, x, sums[n][j]);
                sums[n][2 + j] = fmaf(high, x, sums[n][2 + j]);
            }
        }
    }
}

// `row` and `input` are those of this thread's slot, `cols` the values of the row. All threads of the block call it.
template <class P, int EIGHTS>
DEVICE void multiply_plain(const u8* row, int cols, const Inputs& in, u64 input, int count,
                           PlainShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    const int RUNS = PLAIN_VALUES / P::VALUES, STRIDE = TEAM * P::VALUES;
    int slot = tile_slot();
    const float* x = in.values + input * in.cols;
    bool is_aligned = in.cols % 4 == 0;
    float strand[EIGHTS][4];
    for (int s = 0; s < TEAM; s++) {
        clear(strand);
#pragma unroll 1
        for (int first = s * P::VALUES; first < cols; first += RUNS * STRIDE) {
            sync_block();
#pragma unroll
            for (int run = 0; run < RUNS; run += DEPTH) {
                int mine = run + threadIdx.x / TILE_ROWS, at = first + mine * STRIDE;
                if (at >= cols) continue;
                float q[P::VALUES];
                P::load(row + at / P::VALUES * 16, q);
#pragma unroll
                for (int i = 0; i < P::VALUES; i++) shared.weights[slot][mine * P::VALUES + i] = q[i];
                if (slot < count) {
                    bring_values<P::VALUES>(x + at, is_aligned, cols - at, &shared.inputs[slot][mine * P::VALUES]);
                }
            }
            sync_block();
#pragma unroll 1
            for (int four = 0; four < PLAIN_VALUES; four += 4) {
                int left = cols - (first + four / P::VALUES * STRIDE + four % P::VALUES);
                if (left <= 0) break;
                if (left >= 4) {
                    multiply_four(shared, four, count, strand);
                } else {
                    multiply_rest(shared, four, left, count, strand);
                }
            }
        }
        add_strand(s, strand, total);
    }
}
