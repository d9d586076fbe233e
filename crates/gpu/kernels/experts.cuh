// What the kernels of experts take.
//
// A pair is a token and one of its slots: the chosen experts, most likely first, and last the shared
// expert, whose number is `experts`.
#pragma once
#include "dot.cuh"

// Pairs of one expert: `count` of them, from `first` on in the sorted order.
struct Tile {
    int expert, first, count;
};

// Tiles lie in lists by their size: of up to 8 pairs for dots, of up to 16, 32 and 64 for tensor cores.
#define TILE_LISTS 4

// A matrix of the routed experts: that of expert 0, the others following. And the shared expert's.
struct ExpertMatrix {
    Matrix routed;
    Matrix shared;
};

struct ExpertsArgs {
    Inputs in;             // [tokens, hidden]
    Inputs inner;          // [pairs], as written by `gate_up`
    const int* chosen;     // [tokens, slots]; null: the shared expert alone, a pair a token
    const float* weights;  // [tokens, slots]
    const int* slot_of;    // [experts]: where each expert is among those at `routed`, -1 nowhere; null: in order
    const int* order;      // many pairs: as sorted
    const Tile* tiles;     // those of the kernel's size
    ExpertMatrix gate, up, down;
    u64 stride;            // bytes from one expert to the next
    float* outs;           // [pairs, hidden]: many pairs
    float* out;            // [tokens, hidden]
    int experts, slots, tokens, hidden;
    int rounds;            // whether `gate_up` writes codes of inner values
};

DEVICE Matrix matrix_of(const ExpertsArgs& args, const ExpertMatrix& m, int expert) {
    if (expert == args.experts) return m.shared;
    Matrix routed = m.routed;
    routed.codes += args.stride * (args.slot_of ? args.slot_of[expert] : expert);
    return routed;
}

// Whether somebody else computes an expert.
DEVICE bool is_elsewhere(const ExpertsArgs& args, int expert) {
    return args.slot_of && expert != args.experts && args.slot_of[expert] < 0;
}

// Rounds a pair's inner values, GROUP of them from `first` on, and writes them; eight lanes a pair. All lanes
// of the warp call it; `writes`: whether there is such a pair.
DEVICE void write_inner(const ExpertsArgs& args, int pair, int first, int width, bool writes, const float* inner) {
    int lane = threadIdx.x % 8;
    float x[4];
    for (int i = 0; i < 4; i++) {
        int at = first + lane * 4 + i;
        x[i] = inner[lane * 4 + i];
        if (writes && at < width) const_cast<float*>(args.inner.values)[pair * args.inner.cols + at] = x[i];
    }
    if (!args.rounds) return;
    u64 group = pair * (args.inner.cols / GROUP) + first / GROUP;
    quantise_group(x, 0, writes, const_cast<u32*>(args.inner.codes) + group * 8,
                   const_cast<GroupScale*>(args.inner.scales) + group);
}
