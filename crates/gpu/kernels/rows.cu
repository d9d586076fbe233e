// Rows of tensors: looked up, chosen, joined, added.
#include "formats.cuh"

#define ROW_THREADS 256

struct EmbedArgs {
    Matrix table;
    const int* tokens;
    float* out;  // [tokens, cols]
};

template <class F>
DEVICE void embed_quantised(const Matrix& table, int token, float* out) {
    Row planes = row_of<F>(table, token);
    for (int g = threadIdx.x; g < table.cols / 32; g += ROW_THREADS) {
        int q[8];
        Factors f = F::load(planes, g, q);
        for (int i = 0; i < 32; i++) {
            int code = static_cast<signed char>(q[i / 4] >> i % 4 * 8 & 255) - F::OFFSET;
            float scale = f.scale, min = 0.0f;
            if (F::SCALED) scale *= static_cast<float>(i < 16 ? f.first : f.second);
            if (F::MINS) min = f.min_scale * static_cast<float>(i < 16 ? f.min_first : f.min_second);
            out[g * 32 + i] = scale * static_cast<float>(code) - min;
        }
    }
}

template <class P>
DEVICE void embed_plain(const Matrix& table, int token, float* out) {
    const u8* bytes = table.codes + static_cast<u64>(token) * table.row_bytes;
    for (int run = threadIdx.x; run * P::VALUES < table.cols; run += ROW_THREADS) {
        float x[P::VALUES];
        P::load(bytes + run * 16, x);
        for (int i = 0; i < P::VALUES; i++) {
            if (run * P::VALUES + i < table.cols) out[run * P::VALUES + i] = x[i];
        }
    }
}

// A block a token.
KERNEL_OF(ROW_THREADS, 2, embed, EmbedArgs) {
    int token = args.tokens[blockIdx.x];
    float* out = args.out + static_cast<u64>(blockIdx.x) * args.table.cols;
    switch (args.table.format) {
#define QUANTISED(ID) case ID: embed_quantised<Format<ID>>(args.table, token, out); break;
#define PLAIN(ID) case ID: embed_plain<Plain<ID>>(args.table, token, out); break;
#include "plain.cuh"
#include "quantised.cuh"
#undef QUANTISED
#undef PLAIN
#undef SPLIT
    }
}

struct SelectArgs {
    const float* x;   // [.., cols]
    const int* rows;  // which, one a block
    float* out;
    int cols;
};

KERNEL_OF(ROW_THREADS, 4, select_rows, SelectArgs) {
    const float* from = args.x + static_cast<u64>(args.rows[blockIdx.x]) * args.cols;
    float* to = args.out + static_cast<u64>(blockIdx.x) * args.cols;
    for (int i = threadIdx.x; i < args.cols; i += ROW_THREADS) to[i] = from[i];
}

struct ConcatArgs {
    const float* left;
    const float* right;
    float* out;
    int left_cols;
    int right_cols;
};

// A block a row.
KERNEL_OF(ROW_THREADS, 4, concat, ConcatArgs) {
    u64 row = blockIdx.x;
    int cols = args.left_cols + args.right_cols;
    for (int i = threadIdx.x; i < cols; i += ROW_THREADS) {
        bool is_left = i < args.left_cols;
        const float* from = is_left ? args.left + row * args.left_cols + i
                                    : args.right + row * args.right_cols + (i - args.left_cols);
        args.out[row * cols + i] = *from;
    }
}

struct AddArgs {
    float* x;  // [rows, cols]
    const float* addend;
    int cols;
};

// A block a row.
KERNEL_OF(ROW_THREADS, 4, add, AddArgs) {
    u64 row = static_cast<u64>(blockIdx.x) * args.cols;
    for (int i = threadIdx.x; i < args.cols; i += ROW_THREADS) args.x[row + i] += args.addend[row + i];
}
