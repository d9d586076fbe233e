// What attention takes, and how its sums are cut.
//
// A row's keys are cut into splits whose length follows from the row's position alone. Each split is
// summed from nothing; their results are then joined in order. Whether one block goes through all splits
// or each has its own, the bits are the same.
#pragma once
#include "batch.cuh"
#include "cache.cuh"
#include "input.cuh"

// The fewest keys of a split, a power of two, and the most splits of a row.
#define SPLIT 256
#define MOST_SPLITS 64

struct AttentionArgs {
    const Span* spans;
    const int* row_spans;
    const int* pages;
    const float* query;   // [rows, heads, head_dim]
    const float* gate;
    float* out;           // [rows, heads, head_dim]
    u32* codes;           // of `out`, or null where a head is no whole groups
    GroupScale* scales;
    float* partials;      // [rows, heads, splits, head_dim + 2], or null: one block takes all splits
    int splits;           // of `partials`
    Cache cache;
    int heads;
    float score_scale;    // head_dim^-1/2
};

DEVICE int split_length(int visible) {
    int length = SPLIT;
    while (visible > length * MOST_SPLITS) length *= 2;
    return length;
}

// A softmax in the making: the largest score and the sum of weights.
struct Softmax {
    float largest, sum;
};

// What mixed values so far and those of the next split are multiplied with to join them.
struct Weights {
    float all, next;
};

DEVICE Weights join(Softmax& all, const Softmax& next) {
    float largest = fmaxf(all.largest, next.largest);
    Weights w = {expf(all.largest - largest), expf(next.largest - largest)};
    all.largest = largest;
    all.sum = all.sum * w.all + next.sum * w.next;
    return w;
}
