// Products of a tile of weight rows with a tile of inputs. The sums are those of dot.cuh, term by term and in the
// same order, so an input's products are the same bits here and there.
//
// Codes are multiplied on tensor cores: sums of whole numbers are the same in any order. Plain floats are not, since
// tensor cores add them in an order of their own, and only numbers of 16 bits.
#pragma once
#include "dot.cuh"

#define MATMUL_THREADS 128
// Weight rows of a tile; each warp has 16 of them.
#define TILE_ROWS 64
// Groups of a strand that are in shared memory at once.
#define DEPTH (MATMUL_THREADS / TILE_ROWS)

// Values of a row in shared memory at once: whole runs of plain floats, of one strand.
#define PLAIN_VALUES 16

// Codes are padded by a word a row, so that lanes find them in different banks.
template <int EIGHTS>
struct MatmulShared {
    u32 weights[DEPTH][TILE_ROWS][9], inputs[DEPTH][EIGHTS * 8][9];
    Factors factors[DEPTH][TILE_ROWS];
    GroupScale scales[DEPTH][EIGHTS * 8];
};

// Rows are padded such that eights of them, and every second of eight, lie in different banks.
template <int EIGHTS>
struct PlainShared {
    alignas(16) float weights[TILE_ROWS][PLAIN_VALUES + 4];
    alignas(16) float inputs[EIGHTS * 8][PLAIN_VALUES + 4];
};

template <int EIGHTS>
union TileShared {
    MatmulShared<EIGHTS> codes;
    PlainShared<EIGHTS> values;
};

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

// `planes` and `input` are those of this thread's slot; slots beyond `count` inputs are not looked at, nor are
// products of 16 inputs that are all beyond it worked out. All threads of the block call it.
template <class F, int EIGHTS>
DEVICE void multiply_tile(const Row& planes, int groups, const Inputs& in, u64 input, int count,
                          MatmulShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    int lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4;
    int depth = threadIdx.x / TILE_ROWS, slot = tile_slot();
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
                    if (is_beyond<EIGHTS>(n, count)) break;
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

// The same as `multiply_tile` for a row of `cols` plain floats.
template <class P, int EIGHTS>
DEVICE void multiply_plain(const u8* row, int cols, const Inputs& in, u64 input, int count,
                           PlainShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    const int RUNS = PLAIN_VALUES / P::VALUES, STRIDE = TEAM * P::VALUES;
    int slot = tile_slot();
    const float* x = in.values + input * in.cols;
    bool is_aligned = in.cols % 4 == 0;
    float strand[EIGHTS][4];
    for (int s = 0; s < TEAM; s++) {
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) strand[n][i] = 0.0f;
        }
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
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) total[n][i] = s == 0 ? strand[n][i] : total[n][i] + strand[n][i];
        }
    }
}

// The same for a row of any type.
template <int EIGHTS>
DEVICE void multiply_any(const Matrix& w, int row, const Inputs& in, u64 input, int count, TileShared<EIGHTS>& shared,
                         float (&total)[EIGHTS][4]) {
    switch (w.format) {
#define QUANTISED(ID)                                                                                              \
    case ID:                                                                                                       \
        multiply_tile<Format<ID>>(row_of<Format<ID>>(w, row), w.cols / GROUP, in, input, count, shared.codes, total); \
        break;
#define PLAIN(ID)                                                                                                  \
    case ID:                                                                                                       \
        multiply_plain<Plain<ID>>(w.codes + static_cast<u64>(row) * w.row_bytes, w.cols, in, input, count,         \
                                  shared.values, total);                                                           \
        break;
#include "plain.cuh"
#include "quantised.cuh"
#undef QUANTISED
#undef PLAIN
    }
}
