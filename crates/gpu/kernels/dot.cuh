// Products of weight rows with activations, in the one order in which every kernel sums them.
//
// Eight neighbouring lanes, a team, work on one row. Lane s has the groups s, s + 8, s + 16 and so on
// (of plain floats: the runs of 16 bytes), adds them up in this order, and the eight sums are added from
// lane 0 to lane 7. So a product's bits depend on its row and its input alone: not on how many inputs
// there are, nor on which kernel it is.
//
// Floats of 16 bits are another matter where tensor cores take them: split.cuh.
#pragma once
#include "formats.cuh"
#include "input.cuh"
#include "split.cuh"

#define TEAM 8

// Inputs of `cols` values a row, of which a weight may read fewer: f32, and as codes where weights are
// quantised.
struct Inputs {
    const float* values;
    const u32* codes;
    const GroupScale* scales;
    u64 cols;
};

// The value of a group's product, of which the halves' integer sums are known.
template <class F>
DEVICE float group_value(const Factors& f, int first, int second, GroupScale x) {
    if (F::OFFSET != 0) {
        first -= F::OFFSET * first_sum(x.sums);
        second -= F::OFFSET * second_sum(x.sums);
    }
    int sum = first + second;
    if (F::SCALED) sum = F::HALVES ? f.first * first + f.second * second : f.first * sum;
    float value = f.scale * static_cast<float>(sum);
    if (F::MINS) {
        int low = first_sum(x.sums), high = second_sum(x.sums);
        int mins = F::HALVES ? f.min_first * low + f.min_second * high : f.min_first * (low + high);
        value = fmaf(-f.min_scale, static_cast<float>(mins), value);
    }
    return value;
}

// Adds lane s's groups of a quantised row to `sums`, for each of R inputs; `at` are the inputs' rows.
template <class F, int R>
DEVICE void quantised_strand(const Matrix& w, int row, const Inputs& in, const int (&at)[R], float (&sums)[R]) {
    Row planes = row_of<F>(w, row);
    int groups = w.cols / GROUP;
    // More at once hides latency, but with many inputs registers are short.
#pragma unroll(R < 4 ? 4 : 1)
    for (int g = threadIdx.x % TEAM; g < groups; g += TEAM) {
        int q[8];
        Factors f = F::load(planes, g, q);
#pragma unroll
        for (int r = 0; r < R; r++) {
            u64 group = at[r] * (in.cols / GROUP) + g;
            uint4 a = load16(in.codes + group * 8), b = load16(in.codes + group * 8 + 4);
            GroupScale x = in.scales[group];
            int first = dot4(q[0], a.x, 0), second = dot4(q[4], b.x, 0);
            first = dot4(q[1], a.y, first), second = dot4(q[5], b.y, second);
            first = dot4(q[2], a.z, first), second = dot4(q[6], b.z, second);
            first = dot4(q[3], a.w, first), second = dot4(q[7], b.w, second);
            sums[r] = fmaf(group_value<F>(f, first, second, x), x.scale, sums[r]);
        }
    }
}

// The same for plain floats, which are multiplied with the inputs' own values.
template <class P, int R>
DEVICE void plain_strand(const Matrix& w, int row, const Inputs& in, const int (&at)[R], float (&sums)[R]) {
    const u8* bytes = w.codes + static_cast<u64>(row) * w.row_bytes;
#pragma unroll 1
    for (int run = threadIdx.x % TEAM; run * P::VALUES < w.cols; run += TEAM) {
        float q[P::VALUES];
        P::load(bytes + run * 16, q);
        int first = run * P::VALUES, count = smaller<int>(P::VALUES, w.cols - first);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float* x = in.values + at[r] * in.cols + first;
            // Whole runs first: whether to stop is then known when the kernel is compiled.
            if (count == P::VALUES) {
#pragma unroll
                for (int i = 0; i < P::VALUES; i++) sums[r] = fmaf(q[i], x[i], sums[r]);
            } else {
                for (int i = 0; i < P::VALUES; i++) {
                    if (i < count) sums[r] = fmaf(q[i], x[i], sums[r]);
                }
            }
        }
    }
}

#ifdef HAS_BF16_PRODUCTS
// Adds the products with 128 values of the row, from value `first` on, to those of each two inputs: four strands of a
// team's row, two of them in the rows of its first quad and the next eight further down, two likewise in those of its
// second, and as columns the strands of an input and then of the other. WHOLE: all values are there, and aligned.
template <class P, int R, bool WHOLE>
DEVICE void split_strands(const u8* row, int first, int cols, const Inputs& in, const int (&at)[R],
                          float (&sums)[(R + 1) / 2][4]) {
    int lane = threadIdx.x % WARP, quad = lane / 4, run = first + lane % 4 * 8;
    u32 weights[2][P::PARTS][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int mine = run + (half * 2 + quad % 2) * SEGMENT;
        bring_weights<P>(row, mine, WHOLE ? 8 : cols - mine, weights[half]);
    }
    int mine = run + quad % SPLIT_STRANDS * SEGMENT;
#pragma unroll
    for (int pair = 0; pair < (R + 1) / 2; pair++) {
        int input = quad < SPLIT_STRANDS ? at[pair * 2] : at[smaller(pair * 2 + 1, R - 1)];
        u32 x[2][4];
        bring_inputs(in.values + input * in.cols + mine, WHOLE, WHOLE ? 8 : cols - mine, x);
        multiply_runs<P>(weights[0], weights[1], x, sums[pair]);
    }
}

// Products of a row of 16-bit floats with R inputs; all lanes of a team get them.
template <class P, int R>
DEVICE void split_products(const Matrix& w, int row, const Inputs& in, const int (&at)[R], float (&products)[R]) {
    const int VALUES = SPLIT_STRANDS * SEGMENT;
    const u8* bytes = w.codes + static_cast<u64>(row) * w.row_bytes;
    float sums[(R + 1) / 2][4];
#pragma unroll
    for (int pair = 0; pair < (R + 1) / 2; pair++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[pair][i] = 0.0f;
    }
    int first = 0, whole = in.cols % 4 == 0 ? w.cols - w.cols % VALUES : 0;
#pragma unroll(R < 4 ? 2 : 1)
    for (; first < whole; first += VALUES) split_strands<P, R, true>(bytes, first, w.cols, in, at, sums);
#pragma unroll 1
    for (; first < w.cols; first += VALUES) split_strands<P, R, false>(bytes, first, w.cols, in, at, sums);
    // A lane has one of the sums at most: of strand `odd` or `odd + 2`, where rows and columns are of the same strand.
    int odd = threadIdx.x / 4 % 2;
    bool is_later = threadIdx.x % 2 == 1;
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float(&all)[4] = sums[r / 2];
        float early = odd ? all[1] : all[0], late = odd ? all[3] : all[2];
        float mine = is_later ? late : early;
        int lane = r % 2 * 2;
        products[r] = shuffle(mine, lane, TEAM);
        products[r] += shuffle(mine, lane + 4, TEAM);
        products[r] += shuffle(mine, lane + 1, TEAM);
        products[r] += shuffle(mine, lane + 5, TEAM);
    }
}
#endif

// Products of a row of any type with R inputs; all lanes of a team get them. All lanes of a warp call it.
template <int R>
DEVICE void dot(const Matrix& w, int row, const Inputs& in, const int (&at)[R], float (&products)[R]) {
    float sums[R];
#pragma unroll
    for (int r = 0; r < R; r++) sums[r] = 0.0f;
    switch (w.format) {
#define QUANTISED(ID) case ID: quantised_strand<Format<ID>, R>(w, row, in, at, sums); break;
#define PLAIN(ID) case ID: plain_strand<Plain<ID>, R>(w, row, in, at, sums); break;
#ifdef HAS_BF16_PRODUCTS
#define SPLIT(ID) case ID: split_products<Plain<ID>, R>(w, row, in, at, products); return;
#endif
#include "plain.cuh"
#include "quantised.cuh"
#undef QUANTISED
#undef PLAIN
#undef SPLIT
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        products[r] = shuffle(sums[r], 0, TEAM);
#pragma unroll
        for (int s = 1; s < TEAM; s++) products[r] += shuffle(sums[r], s, TEAM);
    }
}
