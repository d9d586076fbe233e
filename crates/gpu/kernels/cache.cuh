// Keys and values in pages, as this device keeps them.
//
// A page has, for each layer, the key rows of all heads and slots, then the value rows. Rows are padded
// to 16 bytes. Rows of Q8_0 and Q4_0 are all codes, then all scales (f16, one per 32 values); value i of
// Q4_0 is nibble i.
#pragma once
#include "compat.cuh"

// Values of a head that a lane has at once, and the most that a head may have.
#define CHUNK 8
#define MOST_HEAD_DIM 256

// One layer's part of the pages.
struct Cache {
    u8* keys;         // of page 0
    u8* values;
    u64 page_stride;  // bytes
    int key_stride;   // bytes of a row
    int value_stride;
    int key_type;     // as in formats.cuh
    int value_type;
    int page_tokens;
    int kv_heads;
    int head_dim;
};

// The row of a token of a span, `pages` being its pages.
DEVICE u64 cache_row(const Cache& cache, const int* pages, int kv_head, int at) {
    u64 page = pages[at / cache.page_tokens];
    return page << 32 | static_cast<u32>(kv_head * cache.page_tokens + at % cache.page_tokens);
}

DEVICE u8* key_row(const Cache& cache, u64 row) {
    return cache.keys + (row >> 32) * cache.page_stride + static_cast<u64>(static_cast<u32>(row)) * cache.key_stride;
}

DEVICE u8* value_row(const Cache& cache, u64 row) {
    return cache.values + (row >> 32) * cache.page_stride + static_cast<u64>(static_cast<u32>(row)) * cache.value_stride;
}

enum { CACHE_F32 = 0, CACHE_F16 = 1, CACHE_Q4_0 = 2, CACHE_Q8_0 = 8, CACHE_BF16 = 30 };

// Eight values of a row, from value 8 * chunk on.
template <int TYPE>
DEVICE void load_chunk(const u8* row, int chunk, int head_dim, float (&x)[CHUNK]) {
    if (TYPE == CACHE_F32) {
        uint4 a = load16(row + chunk * 32), b = load16(row + chunk * 32 + 16);
        const u32 words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        for (int i = 0; i < 8; i++) x[i] = bits_to_float(words[i]);
    } else if (TYPE == CACHE_F16 || TYPE == CACHE_BF16) {
        uint4 v = load16(row + chunk * 16);
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 8; i++) {
            u16 bits = static_cast<u16>(words[i / 2] >> i % 2 * 16 & 0xffff);
            x[i] = TYPE == CACHE_F16 ? half_to_float(bits) : bf16_to_float(bits);
        }
    } else if (TYPE == CACHE_Q8_0) {
        uint2 v = load8(row + chunk * 8);
        float scale = half_to_float(load2(row + head_dim + chunk / 4 * 2));
        for (int i = 0; i < 8; i++) {
            u32 byte = (i < 4 ? v.x : v.y) >> i % 4 * 8 & 255;
            x[i] = scale * static_cast<float>(static_cast<signed char>(byte));
        }
    } else {
        u32 v = load4(row + chunk * 4);
        float scale = half_to_float(load2(row + head_dim / 2 + chunk / 4 * 2));
        for (int i = 0; i < 8; i++) x[i] = scale * static_cast<float>(static_cast<int>(v >> 4 * i & 15) - 8);
    }
}

// Writes a row of which each lane of a warp has values lane, lane + 32 and so on.
DEVICE void store_row(int type, u8* row, int head_dim, const float* x) {
    int lane = threadIdx.x % WARP;
    for (int first = 0; first < head_dim; first += WARP) {
        int i = first + lane;
        float value = i < head_dim ? x[i] : 0.0f;
        if (type == CACHE_F32) {
            if (i < head_dim) reinterpret_cast<float*>(row)[i] = value;
        } else if (type == CACHE_F16 || type == CACHE_BF16) {
            u16 bits = type == CACHE_F16 ? float_to_half(value) : float_to_bf16(value);
            if (i < head_dim) reinterpret_cast<u16*>(row)[i] = bits;
        } else {
            float largest = warp_max(fabsf(value));
            // Q4_0 maps the value of the largest magnitude, the first of them, to its far end.
            int holder = fabsf(value) == largest ? lane : WARP;
            for (int mask = WARP / 2; mask > 0; mask /= 2) holder = smaller(holder, shuffle_xor(holder, mask));
            float end = shuffle(value, holder % WARP, WARP);
            float scale = type == CACHE_Q8_0 ? largest / 127.0f : end / -8.0f;
            float inverse = 1.0f / scale;
            if (!(fabsf(inverse) <= 3.4e38f)) inverse = 0.0f;
            int code;
            if (type == CACHE_Q8_0) {
                code = static_cast<int>(roundf(value * inverse));
                row[i] = static_cast<u8>(code);
            } else {
                code = smaller(static_cast<int>(value * inverse + 8.5f), 15);
                int high = shuffle_xor(code, 1);
                if (lane % 2 == 0) row[i / 2] = static_cast<u8>(code | high << 4);
            }
            int codes = type == CACHE_Q8_0 ? head_dim : head_dim / 2;
            if (lane == 0) reinterpret_cast<u16*>(row + codes)[first / WARP] = float_to_half(scale);
        }
    }
}
