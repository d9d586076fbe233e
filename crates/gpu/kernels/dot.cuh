// Products of weight rows with activations, in the one order in which every kernel sums them.
//
// Eight neighbouring lanes, a team, work on one row. Lane s has the groups s, s + 8, s + 16 and so on
// (of plain floats: the runs of 16 bytes), adds them up in this order, and the eight sums are added from
// lane 0 to lane 7. So a product's bits depend on its row and its input alone: not on how many inputs
// there are, nor on which kernel it is.
#pragma once
#include "formats.cuh"
#include "input.cuh"

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

// Products of a row of any type with R inputs; all lanes of a team get them. All lanes of a warp call it.
template <int R>
DEVICE void dot(const Matrix& w, int row, const Inputs& in, const int (&at)[R], float (&products)[R]) {
    float sums[R];
#pragma unroll
    for (int r = 0; r < R; r++) sums[r] = 0.0f;
    switch (w.format) {
#define QUANTISED(ID) case ID: quantised_strand<Format<ID>, R>(w, row, in, at, sums); break;
#define PLAIN(ID) case ID: plain_strand<Plain<ID>, R>(w, row, in, at, sums); break;
#include "plain.cuh"
#include "quantised.cuh"
#undef QUANTISED
#undef PLAIN
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        products[r] = shuffle(sums[r], 0, TEAM);
#pragma unroll
        for (int s = 1; s < TEAM; s++) products[r] += shuffle(sums[r], s, TEAM);
    }
}
