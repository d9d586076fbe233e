// Experts for many tokens: tiles of up to 16, 32 or 64 pairs of one expert, whose weights are read once for all of
// them. The same bits as experts.cu. For gate and up of one type.
#include "experts.cuh"
#include "matmul.cuh"

template <int EIGHTS>
struct GateUpShared {
    TileShared<EIGHTS> tile;
    float inner[EIGHTS * 8][GROUP + 1];
    int pairs[EIGHTS * 8];
};

// The tile that a block works on. Where nothing was chosen, all tokens in their order.
template <int EIGHTS>
DEVICE Tile tile_of(const ExpertsArgs& args) {
    int first = blockIdx.y * EIGHTS * 8;
    Tile all = {args.experts, first, smaller(EIGHTS * 8, args.tokens - first)};
    return args.chosen ? args.tiles[blockIdx.y] : all;
}

// Pair `index` of a tile; the last one where there are fewer.
DEVICE int pair_of(const ExpertsArgs& args, const Tile& tile, int index) {
    int at = tile.first + smaller(index, tile.count - 1);
    return args.chosen ? args.order[at] : at;
}

// Block (x, y): the x-th group of inner values of the y-th tile. Of its weight rows, the first half are gate's,
// the others up's, so that inputs are brought once for both.
template <int EIGHTS>
DEVICE void gate_up_tile(const ExpertsArgs& args) {
    SHARED(GateUpShared<EIGHTS>, shared);
    Tile tile = tile_of<EIGHTS>(args);
    if (tile.count == 0 || is_elsewhere(args, tile.expert)) return;
    int slot = tile_slot(), first = blockIdx.x * GROUP;
    Matrix w = matrix_of(args, slot < GROUP ? args.gate : args.up, tile.expert);
    // The shared expert's width may be another one than that of the others.
    if (first >= w.rows) return;
    int row = smaller(first + slot % GROUP, w.rows - 1), pair = pair_of(args, tile, slot);
    if (threadIdx.x < EIGHTS * 8) shared.pairs[threadIdx.x] = pair;
    float total[EIGHTS][4];
    multiply_any(w, row, args.in, pair / args.slots, tile.count, shared.tile, total);
    bool has_up = threadIdx.x >= MATMUL_THREADS / 2;
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (has_up) shared.inner[tile_input(n, i)][tile_row(i) - GROUP] = total[n][i];
        }
    }
    sync_block();
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float* inner = &shared.inner[tile_input(n, i)][tile_row(i)];
            if (!has_up) *inner = silu(total[n][i]) * *inner;
        }
    }
    sync_block();
    for (int index = threadIdx.x / 8; index < EIGHTS * 8; index += MATMUL_THREADS / 8) {
        write_inner(args, shared.pairs[index], first, w.rows, index < tile.count, shared.inner[index]);
    }
}

// Block (x, y): the x-th tile of outputs of the y-th tile of pairs, each to a row of its own.
template <int EIGHTS>
DEVICE void down_tile(const ExpertsArgs& args) {
    SHARED(TileShared<EIGHTS>, shared);
    Tile tile = args.tiles[blockIdx.y];
    if (tile.count == 0 || is_elsewhere(args, tile.expert)) return;
    Matrix w = matrix_of(args, args.down, tile.expert);
    int first = blockIdx.x * TILE_ROWS, row = smaller(first + tile_slot(), w.rows - 1);
    float total[EIGHTS][4];
    multiply_any(w, row, args.inner, pair_of(args, tile, tile_slot()), tile.count, shared, total);
#pragma unroll
    for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int to = tile_input(n, i), out = first + tile_row(i);
            if (to >= tile.count || out >= args.hidden) continue;
            args.outs[static_cast<u64>(pair_of(args, tile, to)) * args.hidden + out] = total[n][i];
        }
    }
}

KERNEL_OF(MATMUL_THREADS, 5, gate_up_16, ExpertsArgs) { gate_up_tile<2>(args); }
KERNEL_OF(MATMUL_THREADS, 4, gate_up_32, ExpertsArgs) { gate_up_tile<4>(args); }
KERNEL_OF(MATMUL_THREADS, 3, gate_up_64, ExpertsArgs) { gate_up_tile<8>(args); }
KERNEL_OF(MATMUL_THREADS, 5, down_16, ExpertsArgs) { down_tile<2>(args); }
KERNEL_OF(MATMUL_THREADS, 4, down_32, ExpertsArgs) { down_tile<4>(args); }
KERNEL_OF(MATMUL_THREADS, 3, down_64, ExpertsArgs) { down_tile<8>(args); }
