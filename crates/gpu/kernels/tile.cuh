// Tiles of weight rows and inputs: who has what of their products.
#pragma once
#include "dot.cuh"

#define MATMUL_THREADS 128
// Weight rows of a tile; each warp has 16 of them.
#define TILE_ROWS 64
// Threads that bring a weight row, and an input, to shared memory.
#define DEPTH (MATMUL_THREADS / TILE_ROWS)

// The weight row of a tile, and the input, that a thread brings a group of at a time.
DEVICE int tile_slot() { return threadIdx.x % TILE_ROWS; }

// A lane's part of the products: `total[n][i]` is that of row `tile_row(i)` with input `tile_input(n, i)`.
DEVICE int tile_row(int i) { return threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4 + i / 2 * 8; }
DEVICE int tile_input(int n, int i) { return n * 8 + threadIdx.x % 4 * 2 + i % 2; }

// Whether a tile ends before its n-th eight inputs. Not asked between some of them, so that products of the one hide the
// other's latency.
template <int EIGHTS>
DEVICE bool is_beyond(int n, int count) {
    return n % (EIGHTS > 4 ? 2 : 1) == 0 && n * 8 >= count;
}

template <int EIGHTS>
DEVICE void clear(float (&sums)[EIGHTS][4]) {
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[n][i] = 0.0f;
    }
}

// Adds the sums of strand `s` to those before it.
template <int EIGHTS>
DEVICE void add_strand(int s, const float (&strand)[EIGHTS][4], float (&total)[EIGHTS][4]) {
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) total[n][i] = s == 0 ? strand[n][i] : total[n][i] + strand[n][i];
    }
}
