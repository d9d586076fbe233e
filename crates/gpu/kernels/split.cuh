// Products of 16-bit floats on tensor cores, in an order of their own.
//
// They take bf16. An input is split in two, its first 16 bits; an f16 weight in its eight bits and the three that
// they leave, a bf16 weight in one part. What the two rests would come to together is left out: at most 2^-18 of the
// product of weight and input, as is lost of the input.
//
// A row is cut into segments of 32 values, of which strand s has the segments s, s + 4, s + 8 and so on, and the
// strands' sums are added from the first to the last. Of a segment, the lanes of a quad have eight values each, the
// first four of which are multiplied at once, then the others. Which sum a device makes of 16 products at once is its
// own, but it depends on these alone: so whether four rows, four strands of each and two inputs fill the tensor
// cores' rows and columns, or 16 rows and eight inputs (tile_split.cuh), a product's bits are the same.
#pragma once
#include "formats.cuh"
#include "input.cuh"

#ifdef HAS_BF16_PRODUCTS
#define SPLIT_STRANDS 4
#define SEGMENT 32

// The parts of the eight weights of a row from value `at` on, of which `left` are there. Rows are padded with zeros.
template <class P>
DEVICE void bring_weights(const u8* row, int at, int left, u32 (&parts)[P::PARTS][4]) {
    if (left > 0) {
        P::load_parts(row + at * 2, parts);
        return;
    }
#pragma unroll
    for (int p = 0; p < P::PARTS; p++) {
#pragma unroll
        for (int i = 0; i < 4; i++) parts[p][i] = 0;
    }
}

// Both parts of eight values of an input, of which `left` are there; the others count as zeros.
DEVICE void bring_inputs(const float* x, bool is_aligned, int left, u32 (&parts)[2][4]) {
    float values[8];
    if (is_aligned && left >= 8) {
        uint4 a = load16(x), b = load16(x + 4);
        const u32 words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = bits_to_float(words[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = i < left ? x[i] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) split(values[2 * i], values[2 * i + 1], parts[0][i], parts[1][i]);
}

// Adds the products of a segment: of the lane's eight weights in each of two rows with its eight values of a column.
// Only here is said in which order.
template <class P>
DEVICE void multiply_runs(const u32 (&low)[P::PARTS][4], const u32 (&high)[P::PARTS][4], const u32 (&x)[2][4],
                          float (&sums)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
#pragma unroll
        for (int p = 0; p < P::PARTS; p++) {
            const u32 weights[4] = {low[p][i], high[p][i], low[p][i + 1], high[p][i + 1]};
            multiply_bf16_16x8x16(sums, weights, x[0][i], x[0][i + 1]);
            if (p == 0) multiply_bf16_16x8x16(sums, weights, x[1][i], x[1][i + 1]);
        }
    }
}

#endif
