// Mixture of experts: who is chosen, and what they say. Which experts run is known to the device alone.
//
// With few tokens a block works on a pair. With many, pairs are sorted by expert, and a block works on up to
// 8 pairs of one by dots, or on up to 64 on tensor cores (expert_tiles.cu). A pair's result is the same.
#include "experts.cuh"

#define EXPERT_THREADS 256
// Inner values of a block: whole groups, so that it can round them.
#define INNER_ROWS (EXPERT_THREADS / TEAM)
#define DOWN_THREADS 128
#define DOWN_ROWS (DOWN_THREADS / TEAM)
// Pairs of a block when there are many.
#define DOT_PAIRS 8
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
KERNEL_OF(128, 4, choose, ChooseArgs) {
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

struct SortArgs {
    const int* chosen;  // [pairs]
    int* order;         // [pairs]: pairs by expert
    Tile* tiles;        // in lists; those that are not needed have no pairs
    int pairs;
    int experts;        // without the shared one
    int routed_by_dots, shared_by_dots;  // whether their weights are no case for tensor cores
    int first_tile[TILE_LISTS + 1];      // of each list
};

struct Counts {
    int pairs[MOST_EXPERTS + 1], next[MOST_EXPERTS + 1], tiles[TILE_LISTS];
};

// One block. The order within an expert and that of the tiles is any: nothing depends on it.
KERNEL_OF(EXPERT_THREADS, 1, sort_pairs, SortArgs) {
    SHARED(Counts, shared);
    int thread = threadIdx.x, numbers = args.experts + 1;
    for (int e = thread; e < numbers; e += EXPERT_THREADS) shared.pairs[e] = 0;
    if (thread < TILE_LISTS) shared.tiles[thread] = args.first_tile[thread];
    sync_block();
    for (int p = thread; p < args.pairs; p += EXPERT_THREADS) add_shared(&shared.pairs[args.chosen[p]], 1);
    sync_block();
    if (thread == 0) {
        int first = 0;
        for (int e = 0; e < numbers; e++) {
            shared.next[e] = first;
            first += shared.pairs[e];
        }
    }
    sync_block();
    for (int e = thread; e < numbers; e += EXPERT_THREADS) {
        bool by_dots = e < args.experts ? args.routed_by_dots : args.shared_by_dots;
        int first = shared.next[e];
        for (int left = shared.pairs[e]; left > 0;) {
            int list = by_dots ? 0 : left > 32 ? 3 : left > 16 ? 2 : 1;
            Tile tile = {e, first, smaller(left, by_dots ? DOT_PAIRS : 64)};
            args.tiles[add_shared(&shared.tiles[list], 1)] = tile;
            first += tile.count, left -= tile.count;
        }
    }
    sync_block();
    for (int list = 0; list < TILE_LISTS; list++) {
        for (int t = shared.tiles[list] + thread; t < args.first_tile[list + 1]; t += EXPERT_THREADS) {
            Tile none = {0, 0, 0};
            args.tiles[t] = none;
        }
    }
    for (int p = thread; p < args.pairs; p += EXPERT_THREADS) {
        args.order[add_shared(&shared.next[args.chosen[p]], 1)] = p;
    }
}

// The pairs that a block works on; false if it has none.
template <int R>
DEVICE bool pairs_of(const ExpertsArgs& args, int tile, int& expert, int& count, int (&pairs)[R]) {
    Tile t = {args.experts, tile * R, smaller(R, args.tokens * args.slots - tile * R)};
    if (args.chosen && R == 1) t.expert = args.chosen[tile];
    if (args.chosen && R > 1) t = args.tiles[tile];
    expert = t.expert;
    count = is_elsewhere(args, t.expert) ? 0 : t.count;
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
    int index = threadIdx.x / 8;
    bool writes = index < count;
    int r = smaller(index, R - 1), pair = 0;
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (i == r) pair = pairs[i];
    }
    write_inner(args, pair, first, width, writes, shared.inner[r]);
}

KERNEL_OF(EXPERT_THREADS, 2, gate_up_1, ExpertsArgs) { gate_up<1>(args); }
KERNEL_OF(EXPERT_THREADS, 1, gate_up_8, ExpertsArgs) { gate_up<DOT_PAIRS>(args); }

// Few tokens: block (x, y) has the x-th tile of outputs of token y, and goes through its slots.
KERNEL_OF(DOWN_THREADS, 4, down_and_sum, ExpertsArgs) {
    int row = blockIdx.x * DOWN_ROWS + threadIdx.x / TEAM, token = blockIdx.y;
    float sum = 0.0f;
#pragma unroll 1
    for (int slot = 0; slot < args.slots; slot++) {
        int pair = token * args.slots + slot;
        if (is_elsewhere(args, args.chosen[pair])) continue;
        const int at[1] = {pair};
        float product[1];
        dot<1>(matrix_of(args, args.down, args.chosen[pair]), smaller(row, args.hidden - 1), args.inner, at, product);
        sum = fmaf(args.weights[pair], product[0], sum);
    }
    if (row < args.hidden && threadIdx.x % TEAM == 0) args.out[static_cast<u64>(token) * args.hidden + row] = sum;
}

// Many tokens: the y-th tile of pairs, each to a row of its own.
KERNEL_OF(DOWN_THREADS, 3, down, ExpertsArgs) {
    int expert, count, pairs[DOT_PAIRS];
    if (!pairs_of<DOT_PAIRS>(args, blockIdx.y, expert, count, pairs)) return;
    int row = blockIdx.x * DOWN_ROWS + threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    float products[DOT_PAIRS];
    dot<DOT_PAIRS>(matrix_of(args, args.down, expert), smaller(row, args.hidden - 1), args.inner, pairs, products);
#pragma unroll
    for (int r = 0; r < DOT_PAIRS; r++) {
        if (r < count && lane == r % TEAM && row < args.hidden) {
            args.outs[static_cast<u64>(pairs[r]) * args.hidden + row] = products[r];
        }
    }
}

// And their weighted sums, in the order of the slots. Block (x, y): columns of token y.
KERNEL_OF(EXPERT_THREADS, 4, sum_slots, ExpertsArgs) {
    int column = blockIdx.x * EXPERT_THREADS + threadIdx.x;
    u64 token = blockIdx.y;
    if (column >= args.hidden) return;
    float sum = 0.0f;
    for (int slot = 0; slot < args.slots; slot++) {
        u64 pair = token * args.slots + slot;
        if (is_elsewhere(args, args.chosen[pair])) continue;
        sum = fmaf(args.weights[pair], args.outs[pair * args.hidden + column], sum);
    }
    args.out[token * args.hidden + column] = sum;
}
