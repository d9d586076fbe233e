// RMS norms, fused with what comes before and with the rounding of their result for products.
#include "input.cuh"

#define NORM_THREADS 256

struct Partial {
    float sums[NORM_THREADS / WARP];
};

DEVICE void load_four(const float* row, int first, int cols, float (&x)[4]) {
    for (int i = 0; i < 4; i++) x[i] = first + i < cols ? row[first + i] : 0.0f;
}

DEVICE void store_four(float* row, int first, int cols, const float (&x)[4]) {
    for (int i = 0; i < 4; i++) {
        if (first + i < cols) row[first + i] = x[i];
    }
}

DEVICE float square_sum(const float (&x)[4], float sum) {
    for (int i = 0; i < 4; i++) sum = fmaf(x[i], x[i], sum);
    return sum;
}

struct AddNormArgs {
    float* x;             // [rows, cols], to which `addend` is added
    const float* addend;  // or null
    const float* weight;  // [cols]
    float* out;           // [rows, cols]
    u32* codes;           // of `out`, or null where columns are no whole groups
    GroupScale* scales;
    int cols;
    float eps;
};

// A block a row.
KERNEL_OF(NORM_THREADS, 4, add_norm, AddNormArgs) {
    SHARED(Partial, shared);
    int cols = args.cols;
    u64 start = static_cast<u64>(blockIdx.x) * cols;
    float* row = args.x + start;
    float sum = 0.0f;
    for (int first = threadIdx.x * 4; first < cols; first += NORM_THREADS * 4) {
        float x[4];
        load_four(row, first, cols, x);
        if (args.addend) {
            float add[4];
            load_four(args.addend + start, first, cols, add);
            for (int i = 0; i < 4; i++) x[i] += add[i];
            store_four(row, first, cols, x);
        }
        sum = square_sum(x, sum);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) shared.sums[threadIdx.x / WARP] = sum;
    sync_block();
    float total = 0.0f;
    for (int warp = 0; warp < NORM_THREADS / WARP; warp++) total += shared.sums[warp];
    float factor = 1.0f / sqrtf(total / static_cast<float>(cols) + args.eps);
    // Every lane of a warp takes every turn, for the sake of those that quantise.
    for (int base = 0; base < cols; base += NORM_THREADS * 4) {
        int first = base + threadIdx.x * 4;
        float x[4], weight[4];
        load_four(row, first, cols, x);
        load_four(args.weight, first, cols, weight);
        for (int i = 0; i < 4; i++) x[i] = x[i] * factor * weight[i];
        store_four(args.out + start, first, cols, x);
        if (args.codes) {
            u64 groups = cols / GROUP * static_cast<u64>(blockIdx.x);
            quantise_group(x, first / GROUP, first < cols, args.codes + groups * 8, args.scales + groups);
        }
    }
}

struct GatedNormArgs {
    const float* x;       // [heads, dim]
    const float* gate;    // [heads, dim]
    const float* weight;  // [dim]
    float* out;           // [heads, dim]
    u32* codes;           // of `out`, or null where a head is no whole groups
    GroupScale* scales;
    int heads;            // of all rows
    int dim;
    float eps;
};

// A warp a head.
KERNEL_OF(NORM_THREADS, 4, gated_norm, GatedNormArgs) {
    int head = blockIdx.x * (NORM_THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (head >= args.heads) return;
    int dim = args.dim;
    u64 start = static_cast<u64>(head) * dim;
    float sum = 0.0f;
    for (int first = lane * 4; first < dim; first += WARP * 4) {
        float x[4];
        load_four(args.x + start, first, dim, x);
        sum = square_sum(x, sum);
    }
    float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + args.eps);
    for (int base = 0; base < dim; base += WARP * 4) {
        int first = base + lane * 4;
        float x[4], weight[4], gate[4];
        load_four(args.x + start, first, dim, x);
        load_four(args.weight, first, dim, weight);
        load_four(args.gate + start, first, dim, gate);
        for (int i = 0; i < 4; i++) x[i] = x[i] * factor * weight[i] * silu(gate[i]);
        store_four(args.out + start, first, dim, x);
        if (args.codes) {
            u64 groups = dim / GROUP * static_cast<u64>(head);
            quantise_group(x, first / GROUP, first < dim, args.codes + groups * 8, args.scales + groups);
        }
    }
}

struct QuantiseArgs {
    const float* x;  // whole groups
    u32* codes;
    GroupScale* scales;
    int groups;
};

// Activations for products, where no kernel before has written them. Eight lanes a group.
KERNEL_OF(NORM_THREADS, 4, quantise, QuantiseArgs) {
    int group = blockIdx.x * (NORM_THREADS / 8) + threadIdx.x / 8;
    bool writes = group < args.groups;
    float x[4];
    for (int i = 0; i < 4; i++) {
        x[i] = writes ? args.x[static_cast<u64>(group) * GROUP + threadIdx.x % 8 * 4 + i] : 0.0f;
    }
    quantise_group(x, group, writes, args.codes, args.scales);
}
