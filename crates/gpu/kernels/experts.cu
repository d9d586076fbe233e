// Mixture of experts: who is chosen, and what they say. Which experts run is known to the device alone.
//
// A pair is a token and one of its slots: the chosen experts, most likely first, and last the shared
// expert, whose number is `experts`. With few tokens a block works on a pair. With many, pairs are sorted
// by expert, and a block works on up to 8 pairs of one. A pair's result is the same either way.
#include "dot.cuh"

#define EXPERT_THREADS 256
// Inner values of a block: whole groups, so that it can round them.
#define INNER_ROWS (EXPERT_THREADS / TEAM)
#define DOWN_THREADS 128
#define DOWN_ROWS (DOWN_THREADS / TEAM)
// Pairs of a block when there are many.
#define TILE 8
#define MOST_EXPERTS 1024

struct ChooseArgs {
    const float* logits;         // [tokens, experts]
    const float* shared_logits;  // [tokens, 1], or null where no expert is shared
    int* chosen;                 // [tokens, slots]
    float* weights;              // [tokens, slots]
    int tokens;
    int experts;
    int top_k;
    int slots;                   // top_k, and one where an expert is shared
    int renormalise;
};

// A warp a token. Ties go to the lower number.
KERNEL_OF(128, 4, choose, ChooseArgs args) {
    int token = blockIdx.x * 4 + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (token >= args.tokens) return;
    const float* logits = args.logits + static_cast<u64>(token) * args.experts;
    float largest = -INFINITY, sum = 0.0f;
    for (int e = lane; e < args.experts; e += WARP) largest = fmaxf(largest, logits[e]);
    largest = warp_max(largest);
    for (int e = lane; e < args.experts; e += WARP) sum += expf(logits[e] - largest);
    sum = warp_sum(sum);
    int* chosen = args.chosen + static_cast<u64>(token) * args.slots;
    float* weights = args.weights + static_cast<u64>(token) * args.slots;
    u32 taken = 0;  // of this lane's experts
    float chosen_sum = 0.0f, mine = 0.0f;
    for (int slot = 0; slot < args.top_k; slot++) {
        float best = -1.0f;
        int expert = args.experts;
        for (int i = 0; i * WARP + lane < args.experts; i++) {
            int e = i * WARP + lane;
            float likely = fmaxf(expf(logits[e] - largest), 0.0f);  // what is no number is never likely
            if (!(taken >> i & 1) && likely > best) best = likely, expert = e;
        }
        for (int mask = WARP / 2; mask > 0; mask /= 2) {
            float other = shuffle_xor(best, mask);
            int there = shuffle_xor(expert, mask);
            if (other > best || (other == best && there < expert)) best = other, expert = there;
        }
        if (expert % WARP == lane) taken |= 1u << expert / WARP;
        if (lane == slot % WARP) mine = best;
        if (lane == 0) chosen[slot] = expert;
        chosen_sum += best;
        // Weights wait until their sum is known; a warp keeps 32 of them.
        bool is_last = slot + 1 == args.top_k;
        if (!args.renormalise) {
            if (lane == 0) weights[slot] = best / sum;
        } else if (is_last && lane < args.top_k) {
            weights[lane] = mine / chosen_sum;
        }
    }
    if (args.shared_logits && lane == 0) {
        chosen[args.top_k] = args.experts;
        weights[args.top_k] = sigmoid(args.shared_logits[token]);
    }
}

// Up to TILE pairs of one expert: `count` of them, from `first` on in the sorted order.
struct Tile {
    int expert, first, count;
};

struct SortArgs {
    const int* chosen;  // [pairs]
    int* order;         // [pairs]: pairs by expert
    Tile* tiles;        // [most_tiles]; those that are not needed have no pairs
    int pairs;
    int experts;        // without the shared one
    int most_tiles;
};

struct Counts {
    int pairs[MOST_EXPERTS + 1], next[MOST_EXPERTS + 1], tiles[MOST_EXPERTS + 2];
};

// One block. The order within an expert is any: nothing depends on it.
KERNEL_OF(EXPERT_THREADS, 1, sort_pairs, SortArgs args) {
    SHARED(Counts, shared);
    int numbers = args.experts + 1;
    for (int e = threadIdx.x; e < numbers; e += EXPERT_THREADS) shared.pairs[e] = 0;
    sync_block();
    for (int p = threadIdx.x; p < args.pairs; p += EXPERT_THREADS) add_shared(&shared.pairs[args.chosen[p]], 1);
    sync_block();
    if (threadIdx.x == 0) {
        int first = 0, tile = 0;
        for (int e = 0; e < numbers; e++) {
            shared.next[e] = first;
            shared.tiles[e] = tile;
            first += shared.pairs[e];
            tile += (shared.pairs[e] + TILE - 1) / TILE;
        }
        shared.tiles[numbers] = tile;
    }
    sync_block();
    for (int e = threadIdx.x; e < numbers; e += EXPERT_THREADS) {
        int first = shared.next[e], end = first + shared.pairs[e];
        for (int tile = shared.tiles[e]; first < end; tile++, first += TILE) {
            Tile t = {e, first, smaller(TILE, end - first)};
            args.tiles[tile] = t;
        }
    }
    for (int tile = shared.tiles[numbers] + threadIdx.x; tile < args.most_tiles; tile += EXPERT_THREADS) {
        Tile none = {0, 0, 0};
        args.tiles[tile] = none;
    }
    sync_block();
    for (int p = threadIdx.x; p < args.pairs; p += EXPERT_THREADS) {
        args.order[add_shared(&shared.next[args.chosen[p]], 1)] = p;
    }
}

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
    const int* order;      // many pairs: as sorted
    const Tile* tiles;
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
    routed.codes += args.stride * expert;
    return routed;
}

// The pairs that a block works on; false if it has none.
template <int R>
DEVICE bool pairs_of(const ExpertsArgs& args, int tile, int& expert, int& count, int (&pairs)[R]) {
    Tile t = {args.experts, tile * R, smaller(R, args.tokens * args.slots - tile * R)};
    if (args.chosen && R == 1) t.expert = args.chosen[tile];
    if (args.chosen && R > 1) t = args.tiles[tile];
    expert = t.expert;
    count = t.count;
#pragma unroll
    for (int r = 0; r < R; r++) {
        int index = t.first + smaller(r, t.count - 1);
        if (count > 0) pairs[r] = args.chosen && R > 1 ? args.order[index] : index;
    }
    return count > 0;
}

template <int R>
struct InnerShared {
    float inner[R][INNER_ROWS];
};

// `silu(gate x) * (up x)`, block (x, y): the x-th tile of inner values of the y-th pairs.
template <int R>
DEVICE void gate_up(const ExpertsArgs& args) {
    SHARED(InnerShared<R>, shared);
    int expert, count, pairs[R], at[R];
    if (!pairs_of<R>(args, blockIdx.y, expert, count, pairs)) return;
#pragma unroll
    for (int r = 0; r < R; r++) at[r] = pairs[r] / args.slots;
    int lane = threadIdx.x % TEAM, team = threadIdx.x / TEAM, first = blockIdx.x * INNER_ROWS;
    // The shared expert's width may be another one than that of the others.
    int width = matrix_of(args, args.gate, expert).rows;
    if (first >= width) return;
    int row = smaller(first + team, width - 1);
    float gate[R], products[R];
    // One copy of the code for both.
#pragma unroll 1
    for (int is_up = 0; is_up < 2; is_up++) {
        Matrix w = matrix_of(args, is_up ? args.up : args.gate, expert);
#pragma unroll
        for (int r = 0; r < R; r++) gate[r] = products[r];
        dot<R>(w, row, args.in, at, products);
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        if (lane == r % TEAM) shared.inner[r][team] = silu(gate[r]) * products[r];
    }
    sync_block();
    // Eight lanes a pair, four values a lane; whole warps, of which some have nothing to write.
    if (static_cast<int>(threadIdx.x) >= (R * 8 + WARP - 1) / WARP * WARP) return;
    int index = threadIdx.x / 8, group_lane = threadIdx.x % 8;
    bool writes = index < count;
    int r = smaller(index, R - 1), pair = 0;
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (i == r) pair = pairs[i];
    }
    float x[4];
    for (int i = 0; i < 4; i++) {
        int inner = first + group_lane * 4 + i;
        x[i] = shared.inner[r][group_lane * 4 + i];
        if (writes && inner < width) {
            const_cast<float*>(args.inner.values)[pair * args.inner.cols + inner] = x[i];
        }
    }
    if (!args.rounds) return;
    u64 group = pair * (args.inner.cols / GROUP) + blockIdx.x;
    quantise_group(x, 0, writes, const_cast<u32*>(args.inner.codes) + group * 8,
                   const_cast<GroupScale*>(args.inner.scales) + group);
}

KERNEL_OF(EXPERT_THREADS, 2, gate_up_1, ExpertsArgs args) { gate_up<1>(args); }
KERNEL_OF(EXPERT_THREADS, 1, gate_up_8, ExpertsArgs args) { gate_up<TILE>(args); }

// Few tokens: block (x, y) has the x-th tile of outputs of token y, and goes through its slots.
KERNEL_OF(DOWN_THREADS, 4, down_and_sum, ExpertsArgs args) {
    int row = blockIdx.x * DOWN_ROWS + threadIdx.x / TEAM, token = blockIdx.y;
    float sum = 0.0f;
#pragma unroll 1
    for (int slot = 0; slot < args.slots; slot++) {
        int pair = token * args.slots + slot;
        const int at[1] = {pair};
        float product[1];
        dot<1>(matrix_of(args, args.down, args.chosen[pair]), smaller(row, args.hidden - 1), args.inner, at, product);
        sum = fmaf(args.weights[pair], product[0], sum);
    }
    if (row < args.hidden && threadIdx.x % TEAM == 0) args.out[static_cast<u64>(token) * args.hidden + row] = sum;
}

// Many tokens: the y-th tile of pairs, each to a row of its own.
KERNEL_OF(DOWN_THREADS, 3, down, ExpertsArgs args) {
    int expert, count, pairs[TILE];
    if (!pairs_of<TILE>(args, blockIdx.y, expert, count, pairs)) return;
    int row = blockIdx.x * DOWN_ROWS + threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    float products[TILE];
    dot<TILE>(matrix_of(args, args.down, expert), smaller(row, args.hidden - 1), args.inner, pairs, products);
#pragma unroll
    for (int r = 0; r < TILE; r++) {
        if (r < count && lane == r % TEAM && row < args.hidden) {
            args.outs[static_cast<u64>(pairs[r]) * args.hidden + row] = products[r];
        }
    }
}

// And their weighted sums, in the order of the slots. Block (x, y): columns of token y.
KERNEL_OF(EXPERT_THREADS, 4, sum_slots, ExpertsArgs args) {
    int column = blockIdx.x * EXPERT_THREADS + threadIdx.x;
    u64 token = blockIdx.y;
    if (column >= args.hidden) return;
    float sum = 0.0f;
    for (int slot = 0; slot < args.slots; slot++) {
        u64 pair = token * args.slots + slot;
        sum = fmaf(args.weights[pair], args.outs[pair * args.hidden + column], sum);
    }
    args.out[token * args.hidden + column] = sum;
}
