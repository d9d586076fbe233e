// Gated attention on tensor cores, for pages of 16 bits and less and heads of whole sixteens.
//
// A block takes some neighbouring rows of a span with all query heads that share a key and value head: its
// queries, 16 to a strip, since that many go through a product at once. It brings keys and values in tiles
// of 32 to shared memory, as f16, for all of them. The warps of a strip share its work: each scores its part
// of a tile's keys and mixes its part of the values' columns.
//
// A query's bits do not depend on the others, nor on how many there are. Tiles begin at multiples of 32 of a
// sequence's tokens. A product adds up the same keys in the same order for each of its rows, wherever the row
// lies in it; keys that a query does not see weigh exactly 0 and are never its largest; values beyond the
// block's last key are zeros. Sums of weights are those of eights of keys, in order, whichever warp has them.
//
// Queries and weights are rounded to f16, and the sum of weights is that of the rounded ones, so that rounding
// does not make them smaller or larger on the whole. Scores and sums are f32. Values of bf16 are exact in f16
// from 2^-14 to 65504 and are bounded beyond. Infinite values, which only broken weights make, would reach rows
// before them: 0 times infinity is no number.
#pragma once
#include "attention.cuh"

// Keys that are in shared memory at once.
#define TILE_KEYS 32
// Values of a key's row there: padded, so that rows lie in different banks.
#define ROW_HALVES (MOST_HEAD_DIM + 8)
#define STRIP 16
// Columns of values that a warp takes at a time: a group of codes.
#define UNIT 32
#define MOST_UNITS (MOST_HEAD_DIM / UNIT)

template <int STRIPS, int SHARES>
struct AttentionShared {
    alignas(16) u16 keys[TILE_KEYS][ROW_HALVES];
    alignas(16) u16 values[TILE_KEYS][ROW_HALVES];
    u32 weights[STRIPS * STRIP][TILE_KEYS / 2 + 4];  // f16
    float largest[SHARES][STRIPS * STRIP];
    float sums[TILE_KEYS / 8][STRIPS * STRIP];
};

// A row and head, and which keys of it are this block's. Registers are short.
struct Query {
    u32 head_row;  // row * heads + head; NONE beyond the last, which has no keys
    int begin, end;
    int length;    // of its splits, a power of two
};

#define NONE 0xffffffffu

// What a block works on.
struct Part {
    Span span;
    int kv_head;
    int first_row, tokens;  // rows of the batch
    int first_head, heads;  // of those that share the key and value head, and how many fit
    int group;              // how many share it
    int begin, end;         // keys
};

// False if there is nothing for the block. Block (x, y, z): a key and value head and some of its query heads;
// a row, with which the next ones go that fit; a split.
template <int QUERIES>
DEVICE bool part_of(const AttentionArgs& args, Part& part) {
    int row = blockIdx.y, kv_heads = args.cache.kv_heads;
    part.span = args.spans[args.row_spans[row]];
    part.group = args.heads / kv_heads;
    part.heads = smaller(part.group, QUERIES);
    int in_span = row - part.span.first_row, tokens = QUERIES / part.heads;
    if (in_span % tokens != 0) return false;
    part.first_row = row;
    part.tokens = smaller(tokens, part.span.rows - in_span);
    part.kv_head = blockIdx.x % kv_heads;
    part.first_head = blockIdx.x / kv_heads * part.heads;
    int visible = part.span.past + in_span + 1, last_visible = visible + part.tokens - 1;
    part.begin = 0, part.end = last_visible;
    if (args.partials) {
        // Lengths grow with positions, so that the first row's split begins first and the last one's ends last.
        int split = blockIdx.z;
        part.begin = split * split_length(visible);
        part.end = smaller(last_visible, (split + 1) * split_length(last_visible));
    }
    return part.begin < part.end;
}

DEVICE Query query_of(const AttentionArgs& args, const Part& part, int index) {
    int token = index / part.heads, head = part.first_head + index % part.heads;
    bool is_one = token < part.tokens && head < part.group;
    Query query;
    query.head_row = is_one ? (part.first_row + token) * args.heads + part.kv_head * part.group + head : NONE;
    int visible = part.span.past + part.first_row + token - part.span.first_row + 1;
    query.length = split_length(visible);
    query.begin = args.partials ? blockIdx.z * query.length : 0;
    query.end = args.partials ? smaller(visible, query.begin + query.length) : visible;
    if (!is_one) query.begin = query.end = 0;
    return query;
}

// The row of a key and value; any where there is none.
DEVICE u64 row_at(const Cache& cache, const int* pages, const Part& part, int at) {
    return at < part.end ? cache_row(cache, pages, part.kv_head, at) : 0;
}

// Eight values of a row to shared memory, as f16.
template <int TYPE>
DEVICE void bring_chunk(const u8* row, int chunk, int head_dim, u16* to) {
    if (TYPE == CACHE_F16) {
        copy16_later(to + chunk * CHUNK, row + chunk * 16);
        return;
    }
    float x[CHUNK];
    load_chunk<TYPE>(row, chunk, head_dim, x);
    for (int i = 0; i < CHUNK; i++) x[i] = fminf(fmaxf(x[i], -65504.0f), 65504.0f);
    uint4 v = {pack_halves(x[0], x[1]), pack_halves(x[2], x[3]), pack_halves(x[4], x[5]), pack_halves(x[6], x[7])};
    *reinterpret_cast<uint4*>(to + chunk * CHUNK) = v;
}

// This thread's part of a row; zeros where there is none.
template <int TYPE, int THREADS>
DEVICE void bring_row(const u8* row, bool exists, int head_dim, u16* to) {
    const int SHARERS = THREADS / TILE_KEYS;
#pragma unroll 4
    for (int chunk = threadIdx.x % SHARERS; chunk < head_dim / CHUNK; chunk += SHARERS) {
        uint4 zeros = {0, 0, 0, 0};
        if (exists) {
            bring_chunk<TYPE>(row, chunk, head_dim, to);
        } else {
            *reinterpret_cast<uint4*>(to + chunk * CHUNK) = zeros;
        }
    }
}

// Divides a unit of a query's mixed values by the sum of weights, gates, writes, and writes the codes. Four
// lanes have it; all lanes of the warp call it.
DEVICE void finish_unit(const AttentionArgs& args, u32 head_row, int unit, float sum, const float (&mixed)[4][2]) {
    int in_quad = threadIdx.x % 4, dim = args.cache.head_dim;
    float x[4][2], largest = 0.0f;
    for (int n = 0; n < 4; n++) {
        for (int i = 0; i < 2; i++) {
            int column = unit * UNIT + n * 8 + in_quad * 2 + i;
            x[n][i] = 0.0f;
            if (head_row != NONE && column < dim) {
                u64 at = static_cast<u64>(head_row) * dim + column;
                x[n][i] = mixed[n][i] / sum * sigmoid(args.gate[at]);
                args.out[at] = x[n][i];
            }
            largest = fmaxf(largest, fabsf(x[n][i]));
        }
    }
    if (!args.codes) return;
    for (int mask = 2; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
    float inverse = group_inverse(largest);
    u64 group = static_cast<u64>(head_row) * (dim / GROUP) + unit;
    int sums[2] = {0, 0};
    for (int n = 0; n < 4; n++) {
        int low = group_code(x[n][0], inverse), high = group_code(x[n][1], inverse);
        sums[n / 2] += low + high;
        u32 pair = (low & 0xff) | (high & 0xff) << 8;
        u32 next = shuffle_xor(static_cast<int>(pair), 1);
        if (head_row != NONE && in_quad % 2 == 0) args.codes[group * 8 + n * 2 + in_quad / 2] = pair | next << 16;
    }
    for (int mask = 2; mask > 0; mask /= 2) {
        sums[0] += shuffle_xor(sums[0], mask);
        sums[1] += shuffle_xor(sums[1], mask);
    }
    GroupScale scale = {group_scale(largest), both_sums(sums[0], sums[1])};
    if (head_row != NONE && in_quad == 0) args.scales[group] = scale;
}

template <int TYPE, int STRIPS, int SHARES>
DEVICE void attention_tiles(const AttentionArgs& args) {
    const int THREADS = STRIPS * SHARES * WARP, EIGHTS = TILE_KEYS / 8 / SHARES, UNITS = MOST_UNITS / SHARES;
    typedef AttentionShared<STRIPS, SHARES> Shared;
    SHARED(Shared, shared);
    Part part;
    if (!part_of<STRIPS * STRIP>(args, part)) return;
    const Cache& cache = args.cache;
    int dim = cache.head_dim, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int share = warp % SHARES, in_quad = lane % 4;
    // A lane has parts of two queries: of this index and eight further.
    int index = warp / SHARES * STRIP + lane / 4;
    const Query queries[2] = {query_of(args, part, index), query_of(args, part, index + 8)};
    u32 query[MOST_HEAD_DIM / 16][4];
#pragma unroll
    for (int k = 0; k < MOST_HEAD_DIM / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint2 v = {0, 0};
            const Query& from = queries[i % 2];
            if (from.head_row != NONE && k * 16 < dim) {
                v = load8(args.query + static_cast<u64>(from.head_row) * dim + k * 16 + i / 2 * 8 + in_quad * 2);
            }
            query[k][i] = pack_halves(bits_to_float(v.x), bits_to_float(v.y));
        }
    }
    // The key that this thread brings a part of.
    int slot = threadIdx.x / (THREADS / TILE_KEYS);
    const int* pages = args.pages + part.span.first_page;
    int first = part.begin;
    u64 place = row_at(cache, pages, part, first + slot);
    bring_row<TYPE, THREADS>(key_row(cache, place), first + slot < part.end, dim, shared.keys[slot]);
    end_copies();
    Softmax softmax[2], all[2];
    float mixed[UNITS][4][4], all_mixed[UNITS][4][4];
#pragma unroll
    for (int i = 0; i < 2; i++) softmax[i].largest = -INFINITY, softmax[i].sum = 0.0f;
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
#pragma unroll
        for (int n = 0; n < 4; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) mixed[u][n][i] = 0.0f;
        }
    }
#pragma unroll 1
    for (; first < part.end; first += TILE_KEYS) {
        // The keys are there, and all warps are done with the last values.
        wait_for_copies<0>();
        sync_block();
        bring_row<TYPE, THREADS>(value_row(cache, place), first + slot < part.end, dim, shared.values[slot]);
        end_copies();
        float score[EIGHTS][4];
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) score[n][i] = 0.0f;
        }
#pragma unroll
        for (int k = 0; k < MOST_HEAD_DIM / 16; k += 2) {
            if (k * 16 >= dim) break;
#pragma unroll
            for (int n = 0; n < EIGHTS; n++) {
                u32 keys[4];
                load_matrices(keys, &shared.keys[(share * EIGHTS + n) * 8 + lane % 8][k * 16 + lane / 8 * 8]);
                multiply_16x8x16(score[n], query[k], keys[0], keys[1]);
                if (k * 16 + 16 < dim) multiply_16x8x16(score[n], query[k + 1], keys[2], keys[3]);
            }
        }
#pragma unroll
        for (int q = 0; q < 2; q++) {
            float largest = -INFINITY;
#pragma unroll
            for (int n = 0; n < EIGHTS; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int key = first + (share * EIGHTS + n) * 8 + in_quad * 2 + i;
                    bool is_seen = key >= queries[q].begin && key < queries[q].end;
                    float& mine = score[n][q * 2 + i];
                    mine = is_seen ? mine * args.score_scale : -INFINITY;
                    largest = fmaxf(largest, mine);
                }
            }
            for (int mask = 2; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
            if (in_quad == 0) shared.largest[share][index + q * 8] = largest;
        }
        sync_block();
        // All warps are done with the keys.
        int next = first + TILE_KEYS;
        if (next < part.end) {
            place = row_at(cache, pages, part, next + slot);
            bring_row<TYPE, THREADS>(key_row(cache, place), next + slot < part.end, dim, shared.keys[slot]);
        }
        end_copies();
        float keep[2];
#pragma unroll
        for (int q = 0; q < 2; q++) {
            float largest = softmax[q].largest;
            for (int s = 0; s < SHARES; s++) largest = fmaxf(largest, shared.largest[s][index + q * 8]);
            // Nothing was seen yet: every weight is 0.
            float from = largest == -INFINITY ? 0.0f : largest;
            keep[q] = expf(softmax[q].largest - from);
            softmax[q].largest = largest;
#pragma unroll
            for (int n = 0; n < EIGHTS; n++) {
                u32 weights = pack_halves(expf(score[n][q * 2] - from), expf(score[n][q * 2 + 1] - from));
                float sum = half_to_float(weights & 0xffff) + half_to_float(weights >> 16);
                for (int mask = 1; mask < 4; mask *= 2) sum += shuffle_xor(sum, mask);
                shared.weights[index + q * 8][(share * EIGHTS + n) * 4 + in_quad] = weights;
                if (in_quad == 0) shared.sums[share * EIGHTS + n][index + q * 8] = sum;
            }
        }
        // The values are there, and all weights.
        wait_for_copies<1>();
        sync_block();
#pragma unroll
        for (int q = 0; q < 2; q++) {
            softmax[q].sum *= keep[q];
            for (int n = 0; n < TILE_KEYS / 8; n++) softmax[q].sum += shared.sums[n][index + q * 8];
        }
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) mixed[u][n][i] *= keep[i / 2];
            }
        }
#pragma unroll
        for (int k = 0; k < TILE_KEYS / 16; k++) {
            const u32 *low = shared.weights[index] + k * 8 + in_quad, *high = shared.weights[index + 8] + k * 8 + in_quad;
            const u32 weights[4] = {low[0], high[0], low[4], high[4]};
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int column = (share + u * SHARES) * UNIT + half * 16;
                    if (column >= dim) break;
                    u32 values[4];
                    load_matrices_turned(values, &shared.values[k * 16 + lane % 16][column + lane / 16 * 8]);
                    multiply_16x8x16(mixed[u][half * 2], weights, values[0], values[1]);
                    multiply_16x8x16(mixed[u][half * 2 + 1], weights, values[2], values[3]);
                }
            }
        }
        if (args.partials) continue;
        // Where a split ends, the next one begins from nothing.
#pragma unroll
        for (int q = 0; q < 2; q++) {
            if ((next & (queries[q].length - 1)) != 0 || next > queries[q].end) continue;
            bool is_first = next == queries[q].length;
            Weights w = {0.0f, 1.0f};
            if (is_first) {
                all[q] = softmax[q];
            } else {
                w = join(all[q], softmax[q]);
            }
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
#pragma unroll
                for (int n = 0; n < 4; n++) {
#pragma unroll
                    for (int i = q * 2; i < q * 2 + 2; i++) {
                        float x = mixed[u][n][i];
                        all_mixed[u][n][i] = is_first ? x : all_mixed[u][n][i] * w.all + x * w.next;
                        mixed[u][n][i] = 0.0f;
                    }
                }
            }
            softmax[q].largest = -INFINITY, softmax[q].sum = 0.0f;
        }
    }
#pragma unroll
    for (int q = 0; q < 2; q++) {
        const Query& mine = queries[q];
        bool is_partial = args.partials != nullptr;
        // The last split, if it is not whole; whole ones were joined.
        bool is_open = (mine.end & (mine.length - 1)) != 0 && !is_partial, has_others = mine.end >= mine.length && !is_partial;
        Weights w = {0.0f, 1.0f};
        if (is_open && has_others) w = join(all[q], softmax[q]);
        if (!has_others) all[q] = softmax[q];
        float* partial = args.partials + (static_cast<u64>(mine.head_row) * args.splits + blockIdx.z) * (dim + 2);
        bool writes = is_partial && mine.begin < mine.end;
        if (writes && share == 0 && in_quad == 0) partial[0] = softmax[q].largest, partial[1] = softmax[q].sum;
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            int unit = share + u * SHARES;
            if (unit * UNIT >= dim) break;
            float x[4][2];
#pragma unroll
            for (int n = 0; n < 4; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float next = mixed[u][n][q * 2 + i], others = all_mixed[u][n][q * 2 + i];
                    x[n][i] = !has_others ? next : is_open ? others * w.all + next * w.next : others;
                    int column = unit * UNIT + n * 8 + in_quad * 2 + i;
                    if (writes && column < dim) partial[2 + column] = x[n][i];
                }
            }
            if (!is_partial) finish_unit(args, mine.head_row, unit, all[q].sum, x);
        }
    }
}

// The kernels of a type of pages, which a program has for itself, since few are in use. Few queries: a strip to a
// block, of which there are then more. Many: four, for which keys are read once.
#define ATTENTION_TILES(type, TYPE)                                                                  \
    KERNEL_OF(128, 2, attention_few_##type, AttentionArgs) { attention_tiles<TYPE, 1, 4>(args); } \
    KERNEL_OF(256, 1, attention_many_##type, AttentionArgs) { attention_tiles<TYPE, 4, 2>(args); }
