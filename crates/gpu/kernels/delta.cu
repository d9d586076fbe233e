// The causal convolution and the gated delta rule over a batch's spans, with held rows.
#include "batch.cuh"

#define CONV_THREADS 128
// That fit a multiprocessor: at most 64 registers a thread.
#define CONV_BLOCKS 8
// Rows of a span that a block of the convolution works on.
#define CONV_TILE 64
#define MOST_TAPS 8
// Added to the sum of squares of q and k before the root.
#define L2_EPS 1e-6f

struct ConvArgs {
    const Span* spans;
    const float* input;    // [rows, channels]
    const float* weight;   // [channels, taps], oldest tap first
    float* out;            // [rows, channels]
    float* states;         // this layer's state of slot 0: [taps - 1, channels]
    u64 state_stride;      // between slots, in values
    float* held;           // this layer's held inputs of slot 0: [held_rows, channels]
    u64 held_stride;
    int channels;
    int taps;
    int updates;           // whether this launch also moves states on: where spans are one tile
};

// Input `at` of a span as the convolution sees it: those before 0 are in the state, of which the first
// `replay` held inputs came last.
DEVICE float conv_input(const ConvArgs& args, const Span& span, const float* state, const float* held,
                        int channel, int at) {
    if (at >= 0) return args.input[static_cast<u64>(span.first_row + at) * args.channels + channel];
    int index = span.replay + args.taps - 1 + at;
    if (index < args.taps - 1) return state[static_cast<u64>(index) * args.channels + channel];
    return held[static_cast<u64>(index - (args.taps - 1)) * args.channels + channel];
}

// Leaves the state after the span, or before it with the span's inputs held.
DEVICE void conv_update(const ConvArgs& args, const Span& span, float* state, float* held, int channel) {
    int end = span.hold ? 0 : span.rows;
    float next[MOST_TAPS - 1];
    for (int tap = 0; tap < MOST_TAPS - 1; tap++) {
        if (tap < args.taps - 1) {
            next[tap] = conv_input(args, span, state, held, channel, end - (args.taps - 1) + tap);
        }
    }
    for (int tap = 0; tap < MOST_TAPS - 1; tap++) {
        if (tap < args.taps - 1) state[static_cast<u64>(tap) * args.channels + channel] = next[tap];
    }
    if (!span.hold) return;
    // No load may pass a store to what may be the same place: unrolled further, it would take registers and no less time.
#pragma unroll 1
    for (int row = 0; row < span.rows; row++) {
        held[static_cast<u64>(row) * args.channels + channel] = conv_input(args, span, state, held, channel, row);
    }
}

// Block (x, y, z): a tile of channels, a span, a tile of its rows. A thread a channel.
KERNEL_OF(CONV_THREADS, CONV_BLOCKS, causal_conv, ConvArgs) {
    int channel = blockIdx.x * CONV_THREADS + threadIdx.x;
    if (channel >= args.channels) return;
    const Span span = args.spans[blockIdx.y];
    float* state = args.states + span.state * args.state_stride;
    float* held = args.held + span.state * args.held_stride;
    int taps = args.taps, begin = blockIdx.z * CONV_TILE, end = smaller<int>(span.rows, begin + CONV_TILE);
    float weight[MOST_TAPS], window[MOST_TAPS];  // the window's newest value is the last one
#pragma unroll
    for (int i = 0; i < MOST_TAPS; i++) {
        int tap = i - (MOST_TAPS - taps);
        weight[i] = tap >= 0 ? args.weight[static_cast<u64>(channel) * taps + tap] : 0.0f;
        // One place too far right, for the loop begins by moving it.
        bool is_seen = tap >= 1 && begin < end;
        window[i] = is_seen ? conv_input(args, span, state, held, channel, begin - taps + tap) : 0.0f;
    }
    // Twice, for the moves; further would take registers and no less time, as above.
#pragma unroll 2
    for (int row = begin; row < end; row++) {
        u64 at = static_cast<u64>(span.first_row + row) * args.channels + channel;
#pragma unroll
        for (int i = 0; i + 1 < MOST_TAPS; i++) window[i] = window[i + 1];
        window[MOST_TAPS - 1] = args.input[at];
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < MOST_TAPS; i++) sum = fmaf(weight[i], window[i], sum);
        args.out[at] = silu(sum);
    }
    if (args.updates) conv_update(args, span, state, held, channel);
}

// Moves states on after a convolution over several tiles, or without one.
KERNEL_OF(CONV_THREADS, CONV_BLOCKS, conv_states, ConvArgs) {
    int channel = blockIdx.x * CONV_THREADS + threadIdx.x;
    if (channel >= args.channels) return;
    const Span span = args.spans[blockIdx.y];
    conv_update(args, span, args.states + span.state * args.state_stride,
                args.held + span.state * args.held_stride, channel);
}

struct DeltaArgs {
    const Span* spans;
    const float* qkv;      // [rows, channels]: q of all key heads, k, then v of all value heads
    const float* a;        // [rows, value_heads]
    const float* b;        // [rows, value_heads]
    const float* decay;    // [value_heads]
    const float* dt_bias;  // [value_heads]
    float* out;            // [rows, value_heads, value_dim]
    float* states;         // this layer's state of slot 0: [value_heads, key_dim, value_dim]
    u64 state_stride;      // between slots, in values
    float* held;           // this layer's held steps of slot 0: [value_heads, held_rows, step]
    u64 held_stride;
    int held_rows;
    int key_heads, value_heads, key_dim, value_dim;
    int is_tiled;          // value head h reads key head h % key_heads, else h / (values per key)
    float query_scale;     // key_dim^-1/2
};

// Steps that are made ready at once.
#define DELTA_STEPS 8
// Threads of a column of the state: part p has the keys p, p + 4, p + 8 and so on.
#define PARTS 4

template <int KEYS>
struct DeltaShared {
    float q[DELTA_STEPS][KEYS], k[DELTA_STEPS][KEYS];
    float g[DELTA_STEPS], beta[DELTA_STEPS];
};

DEVICE float sum_of_parts(float part) {
    part += shuffle_xor(part, 1);
    return part + shuffle_xor(part, 2);
}

// A thread has its part of a column in registers, of KEYS values of which the first key_dim count.
template <int KEYS>
DEVICE float delta_step(float (&column)[KEYS / PARTS], const DeltaShared<KEYS>& step, int index, float v) {
    int part = threadIdx.x % PARTS;
    float alpha = expf(step.g[index]), read = 0.0f, output = 0.0f;
#pragma unroll
    for (int i = 0; i < KEYS / PARTS; i++) {
        column[i] *= alpha;
        read = fmaf(column[i], step.k[index][i * PARTS + part], read);
    }
    forget_memory();
    float write = step.beta[index] * (v - sum_of_parts(read));
#pragma unroll
    for (int i = 0; i < KEYS / PARTS; i++) {
        column[i] = fmaf(step.k[index][i * PARTS + part], write, column[i]);
        output = fmaf(column[i], step.q[index][i * PARTS + part], output);
    }
    return sum_of_parts(output);
}

// Fills `to` with `from` over its length, times `scale`; what follows with zeros. A warp does it.
template <int KEYS>
DEVICE void normalise(const float* from, int len, float scale, float (&to)[KEYS]) {
    int lane = threadIdx.x % WARP;
    float sum = 0.0f;
    for (int i = lane; i < len; i += WARP) sum = fmaf(from[i], from[i], sum);
    float factor = scale / sqrtf(warp_sum(sum) + L2_EPS);
    for (int i = lane; i < KEYS; i += WARP) to[i] = i < len ? from[i] * factor : 0.0f;
}

template <int KEYS>
DEVICE void store_column(const float (&column)[KEYS / PARTS], float* state, int key_dim, int value_dim, int j, int part,
                         bool has_column) {
    state = afresh(state);
#pragma unroll
    for (int i = 0; i < KEYS / PARTS; i++) {
        int key = i * PARTS + part;
        if (key < key_dim && has_column) state[key * value_dim + j] = column[i];
    }
}

DEVICE float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// Block (x, y): a value head of a span; PARTS threads a column of its state. The held steps that stay are
// applied, then the span's steps run: on registers alone where they are to be held.
template <int KEYS>
DEVICE void delta_rule(const DeltaArgs& args) {
    SHARED(DeltaShared<KEYS>, shared);
    const Span span = args.spans[blockIdx.y];
    int thread = threadIdx.x, threads = blockDim.x, warp = thread / WARP, warps = threads / WARP;
    int head = blockIdx.x, j = thread / PARTS, part = thread % PARTS;
    int key_dim = args.key_dim, value_dim = args.value_dim;
    bool has_column = j < value_dim, writes = has_column && part == 0;
    int key_head = args.is_tiled ? head % args.key_heads : head / (args.value_heads / args.key_heads);
    int channels = 2 * args.key_heads * key_dim + args.value_heads * value_dim;
    int held_step = key_dim + value_dim + 2;
    float* state = args.states + span.state * args.state_stride + static_cast<u64>(head) * key_dim * value_dim;
    float* held = args.held + span.state * args.held_stride + static_cast<u64>(head) * args.held_rows * held_step;

    float column[KEYS / PARTS];
#pragma unroll
    for (int i = 0; i < KEYS / PARTS; i++) {
        int key = i * PARTS + part;
        column[i] = key < key_dim && has_column ? state[key * value_dim + j] : 0.0f;
    }
#pragma unroll 1
    for (int index = 0; index < span.replay; index++) {
        const float* step = held + index * held_step;
        sync_block();
        for (int i = thread; i < KEYS; i += threads) {
            shared.k[0][i] = i < key_dim ? step[i] : 0.0f;
            shared.q[0][i] = 0.0f;
        }
        if (thread == 0) {
            shared.g[0] = step[key_dim + value_dim];
            shared.beta[0] = step[key_dim + value_dim + 1];
        }
        sync_block();
        delta_step<KEYS>(column, shared, 0, has_column ? step[key_dim + j] : 0.0f);
    }
    for (int begin = 0; begin < span.rows; begin += DELTA_STEPS) {
        int count = smaller<int>(DELTA_STEPS, span.rows - begin);
        // A held span leaves the state as it is after the replay.
        if (begin == 0 && span.hold) store_column<KEYS>(column, state, key_dim, value_dim, j, part, has_column);
        sync_block();
        for (int task = warp; task < 2 * count; task += warps) {
            int index = task / 2;
            const float* qkv = args.qkv + static_cast<u64>(span.first_row + begin + index) * channels;
            if (task % 2 == 0) {
                normalise<KEYS>(qkv + key_head * key_dim, key_dim, args.query_scale, shared.q[index]);
            } else {
                normalise<KEYS>(qkv + (args.key_heads + key_head) * key_dim, key_dim, 1.0f, shared.k[index]);
            }
        }
        for (int index = thread; index < count; index += threads) {
            u64 at = static_cast<u64>(span.first_row + begin + index) * args.value_heads + head;
            shared.g[index] = args.decay[head] * softplus(args.a[at] + args.dt_bias[head]);
            shared.beta[index] = sigmoid(args.b[at]);
        }
        sync_block();
#pragma unroll 1
        for (int index = 0; index < count; index++) {
            u64 row = span.first_row + begin + index;
            u64 first_value = 2 * args.key_heads * key_dim + head * value_dim;
            float v = has_column ? args.qkv[row * channels + first_value + j] : 0.0f;
            float output = delta_step<KEYS>(column, shared, index, v);
            if (writes) args.out[(row * args.value_heads + head) * value_dim + j] = output;
            if (!span.hold) continue;
            float* step = held + (begin + index) * held_step;
            for (int i = thread; i < key_dim; i += threads) step[i] = shared.k[index][i];
            if (writes) step[key_dim + j] = v;
            if (thread == 0) {
                step[key_dim + value_dim] = shared.g[index];
                step[key_dim + value_dim + 1] = shared.beta[index];
            }
        }
    }
    if (!span.hold || span.rows == 0) store_column<KEYS>(column, state, key_dim, value_dim, j, part, has_column);
}

// For up to so many values of a key head, and up to MOST_VALUES of a value head.
#define MOST_VALUES 128
KERNEL_OF(MOST_VALUES * PARTS, 1, delta_rule_32, DeltaArgs) { delta_rule<32>(args); }
KERNEL_OF(MOST_VALUES * PARTS, 1, delta_rule_128, DeltaArgs) { delta_rule<128>(args); }
