// Products of a tile of weight rows with a tile of inputs. The sums are those of dot.cuh, term by term and in the
// same order, so an input's products are the same bits here and there.
//
// Codes are multiplied on tensor cores: sums of whole numbers are the same in any order. So are 16-bit floats, in the
// order of split.cuh; f32 is not.
#pragma once
#include "tile_floats.cuh"
#include "tile_split.cuh"

// Groups of a strand that are in shared memory at once: DEPTH. Codes are padded by a word a row, so that lanes find
// them in different banks.
template <int EIGHTS>
struct MatmulShared {
    u32 weights[DEPTH][TILE_ROWS][9], inputs[DEPTH][EIGHTS * 8][9];
    Factors factors[DEPTH][TILE_ROWS];
    GroupScale scales[DEPTH][EIGHTS * 8];
};

template <int EIGHTS>
union TileShared {
    MatmulShared<EIGHTS> codes;
    PlainShared<EIGHTS> values;
#ifdef HAS_BF16_PRODUCTS
    SplitShared<EIGHTS> parts;
#endif
};

// `planes` and `input` are those of this thread's slot; slots beyond `count` inputs are not looked at, nor are
// products of 16 inputs that are all beyond it worked out. All threads of the block call it.
template <class F, int EIGHTS>
DEVICE void multiply_tile(const Row& planes, int groups, const Inputs& in, u64 input, int count,
                          MatmulShared<EIGHTS>& shared, float (&total)[EIGHTS][4]) {
    int lane = threadIdx.x % WARP, quad = lane / 4, in_quad = lane % 4;
    int depth = threadIdx.x / TILE_ROWS, slot = tile_slot();
    float strand[EIGHTS][4];
    for (int s = 0; s < TEAM; s++) {
        clear(strand);
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
        add_strand(s, strand, total);
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
#ifdef HAS_BF16_PRODUCTS
#define SPLIT(ID)                                                                                                  \
    case ID:                                                                                                       \
        multiply_split<Plain<ID>>(w.codes + static_cast<u64>(row) * w.row_bytes, w.cols, in, input, count,         \
                                  shared.parts, total);                                                            \
        break;
#endif
#include "plain.cuh"
#include "quantised.cuh"
#undef QUANTISED
#undef PLAIN
#undef SPLIT
    }
}
