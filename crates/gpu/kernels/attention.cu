// Gated attention over pages: what goes in, the attention itself for pages and heads that are no case for
// tensor cores (see attention_tiles.cuh), and the joining of splits for both.
#include "attention.cuh"

#define ATTENTION_WARPS 4
#define ATTENTION_THREADS (ATTENTION_WARPS * WARP)

struct InputsArgs {
    const Span* spans;
    const int* row_spans;      // [rows]: the span of each row
    const int* pages;          // of all spans
    const int* positions;      // [rows, 3]
    const float* query_gate;   // [rows, heads, 2, head_dim]
    const float* key;          // [rows, kv_heads, head_dim]
    const float* value;
    const float* query_norm;   // [head_dim]
    const float* key_norm;
    const float* frequencies;  // [half]
    const u8* axes;            // [half]
    float* query;              // [rows, heads, head_dim]
    float* gate;
    Cache cache;
    int heads;
    int half;
    float rotary_scale;
    float eps;
};

struct HeadsInShared {
    float heads[ATTENTION_WARPS][MOST_HEAD_DIM];
    float turned[ATTENTION_WARPS][MOST_HEAD_DIM];
};

// Norms a head and turns the pairs (j, j + half) of its first values; a warp does it.
DEVICE void norm_and_turn(const InputsArgs& args, int row, const float* from, const float* norm, float* x, float* out) {
    int lane = threadIdx.x % WARP, dim = args.cache.head_dim;
    float sum = 0.0f;
    for (int i = lane; i < dim; i += WARP) sum = fmaf(from[i], from[i], sum);
    float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + args.eps);
    for (int i = lane; i < dim; i += WARP) x[i] = from[i] * factor * norm[i];
    sync_warp();
    for (int i = lane; i < dim; i += WARP) {
        float value = x[i];
        if (i < 2 * args.half) {
            int j = i < args.half ? i : i - args.half;
            float angle = static_cast<float>(args.positions[row * 3 + args.axes[j]]) * args.frequencies[j];
            float c = cosf(angle) * args.rotary_scale, s = sinf(angle) * args.rotary_scale;
            value = i < args.half ? value * c - x[i + args.half] * s : value * c + x[j] * s;
        }
        out[i] = value;
    }
    sync_warp();
}

// A warp for each query head and each key and value head of each row.
KERNEL_OF(ATTENTION_THREADS, 4, attention_inputs, InputsArgs) {
    SHARED(HeadsInShared, shared);
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int head = blockIdx.x * ATTENTION_WARPS + warp, row = blockIdx.y;
    int dim = args.cache.head_dim, kv_heads = args.cache.kv_heads;
    if (head >= args.heads + kv_heads) return;
    float *x = shared.heads[warp], *turned = shared.turned[warp];
    if (head < args.heads) {
        u64 to = (static_cast<u64>(row) * args.heads + head) * dim;
        const float* from = args.query_gate + 2 * to;
        norm_and_turn(args, row, from, args.query_norm, x, turned);
        for (int i = lane; i < dim; i += WARP) {
            args.query[to + i] = turned[i];
            args.gate[to + i] = from[dim + i];
        }
        return;
    }
    int kv_head = head - args.heads;
    const Span span = args.spans[args.row_spans[row]];
    u64 from = (static_cast<u64>(row) * kv_heads + kv_head) * dim;
    u64 to = cache_row(args.cache, args.pages + span.first_page, kv_head, span.past + row - span.first_row);
    norm_and_turn(args, row, args.key + from, args.key_norm, x, turned);
    store_row(args.cache.key_type, key_row(args.cache, to), dim, turned);
    store_row(args.cache.value_type, value_row(args.cache, to), dim, args.value + from);
}

// A softmax in the making, with a lane's part of the mixed values.
struct Mixed : Softmax {
    float values[CHUNK];
};

DEVICE void join(Mixed& all, const Mixed& next, bool is_first) {
    if (is_first) {
        all = next;
        return;
    }
    Weights w = join(all, next);
    for (int i = 0; i < CHUNK; i++) all.values[i] = all.values[i] * w.all + next.values[i] * w.next;
}

// Keys begin..end of a row, 32 at a time: a team of eight lanes scores a key, then the warp mixes values.
template <int KEYS, int VALUES>
DEVICE Mixed attend(const Cache& cache, const int* pages, int kv_head, int begin, int end, const float (&query)[4][CHUNK]) {
    int lane = threadIdx.x % WARP, chunks = cache.head_dim / CHUNK;
    Mixed mixed;
    mixed.largest = -INFINITY, mixed.sum = 0.0f;
    for (int i = 0; i < CHUNK; i++) mixed.values[i] = 0.0f;
    for (int first = begin; first < end; first += WARP) {
        float score = -INFINITY;
        for (int turn = 0; turn < 8; turn++) {
            int at = first + turn * 4 + lane / 8;
            float sum = 0.0f;
            if (at < end) {
                const u8* key = key_row(cache, cache_row(cache, pages, kv_head, at));
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    int chunk = c * 8 + lane % 8;
                    if (chunk >= chunks) continue;
                    float x[CHUNK];
                    load_chunk<KEYS>(key, chunk, cache.head_dim, x);
#pragma unroll
                    for (int i = 0; i < CHUNK; i++) sum = fmaf(query[c][i], x[i], sum);
                }
            }
            for (int mask = 4; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
            float mine = shuffle(sum, lane % 4 * 8, WARP);
            if (lane / 4 == turn && first + lane < end) score = mine;
        }
        float largest = fmaxf(mixed.largest, warp_max(score));
        float old_weight = expf(mixed.largest - largest), weight = expf(score - largest);
        mixed.largest = largest;
        mixed.sum = mixed.sum * old_weight + warp_sum(weight);
        for (int i = 0; i < CHUNK; i++) mixed.values[i] *= old_weight;
        int count = smaller(WARP, end - first);
#pragma unroll 4
        for (int k = 0; k < count; k++) {
            float w = shuffle(weight, k, WARP);
            if (lane >= chunks) continue;
            float x[CHUNK];
            load_chunk<VALUES>(value_row(cache, cache_row(cache, pages, kv_head, first + k)), lane, cache.head_dim, x);
            for (int i = 0; i < CHUNK; i++) mixed.values[i] = fmaf(w, x[i], mixed.values[i]);
        }
    }
    return mixed;
}

// Divides by the sum, gates, writes, and writes the codes.
DEVICE void finish(const AttentionArgs& args, u64 head_row, const Mixed& mixed) {
    int lane = threadIdx.x % WARP, dim = args.cache.head_dim;
    u64 start = head_row * dim;
    float out[CHUNK];
    for (int i = 0; i < CHUNK; i++) {
        u64 at = start + lane * CHUNK + i;
        out[i] = 0.0f;
        if (lane * CHUNK < dim) {
            out[i] = mixed.values[i] / mixed.sum * sigmoid(args.gate[at]);
            args.out[at] = out[i];
        }
    }
    if (!args.codes) return;
    u64 groups = head_row * (dim / GROUP);
    for (int pass = 0; pass * 128 < dim; pass++) {
        float x[4];
        for (int i = 0; i < 4; i++) {
            int from = pass * 16 + lane / 2;
            float low = shuffle(out[i], from, WARP), high = shuffle(out[4 + i], from, WARP);
            x[i] = lane % 2 == 0 ? low : high;
        }
        int first = pass * 128 + lane * 4;
        quantise_group(x, first / GROUP, first < dim, args.codes + groups * 8, args.scales + groups);
    }
}

// Block (x, y, z): four heads, a row, a split. A warp a head.
template <int KEYS, int VALUES>
DEVICE void attention(const AttentionArgs& args) {
    int lane = threadIdx.x % WARP;
    int head = blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP, row = blockIdx.y;
    const Cache& cache = args.cache;
    if (head >= args.heads) return;
    const Span span = args.spans[args.row_spans[row]];
    const int* pages = args.pages + span.first_page;
    int visible = span.past + row - span.first_row + 1, length = split_length(visible);
    int splits = (visible + length - 1) / length, begin = args.partials ? blockIdx.z : 0;
    if (begin >= splits) return;
    u64 head_row = static_cast<u64>(row) * args.heads + head;
    float query[4][CHUNK];
    for (int c = 0; c < 4; c++) {
        for (int i = 0; i < CHUNK; i++) {
            int at = (c * 8 + lane % 8) * CHUNK + i;
            query[c][i] = at < cache.head_dim ? args.query[head_row * cache.head_dim + at] * args.score_scale : 0.0f;
        }
    }
    int kv_head = head / (args.heads / cache.kv_heads);
    Mixed all;
    for (int split = begin; split < splits; split++) {
        int last = smaller(visible, (split + 1) * length);
        Mixed next = attend<KEYS, VALUES>(cache, pages, kv_head, split * length, last, query);
        if (!args.partials) {
            join(all, next, split == 0);
            continue;
        }
        float* to = args.partials + (head_row * args.splits + split) * (cache.head_dim + 2);
        for (int i = 0; i < CHUNK; i++) {
            if (lane * CHUNK < cache.head_dim) to[2 + lane * CHUNK + i] = next.values[i];
        }
        if (lane == 0) to[0] = next.largest, to[1] = next.sum;
        return;
    }
    finish(args, head_row, all);
}

#define ATTENTION(name, KEYS, VALUES)                                                                 \
    KERNEL_OF(ATTENTION_THREADS, 3, name, AttentionArgs) { attention<KEYS, VALUES>(args); }
ATTENTION(attention_f32, CACHE_F32, CACHE_F32)
ATTENTION(attention_f16, CACHE_F16, CACHE_F16)
ATTENTION(attention_bf16, CACHE_BF16, CACHE_BF16)
ATTENTION(attention_q8_0, CACHE_Q8_0, CACHE_Q8_0)
ATTENTION(attention_q4_0, CACHE_Q4_0, CACHE_Q4_0)

// Joins the splits of a row's head, which have a warp, in their order.
KERNEL_OF(ATTENTION_THREADS, 4, attention_join, AttentionArgs) {
    int lane = threadIdx.x % WARP;
    int head = blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP, row = blockIdx.y;
    if (head >= args.heads) return;
    const Span span = args.spans[args.row_spans[row]];
    int visible = span.past + row - span.first_row + 1, length = split_length(visible);
    u64 head_row = static_cast<u64>(row) * args.heads + head;
    Mixed all;
    for (int split = 0; split * length < visible; split++) {
        const float* from = args.partials + (head_row * args.splits + split) * (args.cache.head_dim + 2);
        Mixed next;
        next.largest = from[0], next.sum = from[1];
        for (int i = 0; i < CHUNK; i++) {
            next.values[i] = lane * CHUNK < args.cache.head_dim ? from[2 + lane * CHUNK + i] : 0.0f;
        }
        join(all, next, split == 0);
    }
    finish(args, head_row, all);
}
