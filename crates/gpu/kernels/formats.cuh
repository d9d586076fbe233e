// Storage types as kernels read them.
//
// A matrix is uploaded in planes: all rows' codes, then their high bits, the scales of groups of 32
// values and the scales of blocks, so that codes are loaded 16 (or 8) bytes at a time. Together the
// planes take the bytes that the blocks of the file take: the host says how many of each plane eight
// groups have (PLANES_*). `Format<id>` says how a group's codes come out; `repack.cu` writes the planes.
//
// Numbers are those of GGUF (`ggml_type`). What the bits mean is in crates/tensor/src/quant.
#pragma once
#include "codebooks.h"
#include "compat.cuh"

// Which types this program is for: bit n is the type of number n.
#ifndef FORMATS
#define FORMATS 0x8040f77d07ull
#endif
#define HAS_FORMAT(id) ((FORMATS >> (id)) & 1)

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
       IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ4_NL = 20, IQ3_S = 21, IQ2_S = 22, IQ4_XS = 23,
       BF16 = 30, MXFP4 = 39 };

// A matrix [rows, cols] in planes; of plain floats, rows padded to 16 bytes.
struct Matrix {
    const u8* codes;
    u64 high;   // offsets of the other planes
    u64 scales;
    u64 blocks;
    int rows;
    int cols;
    int format;
    int row_bytes;  // of a plain float type
};

// What a group's integer sums are multiplied with: the group's value is
// `scale * (first * dot(first half) + second * dot(second half))`, less the same of the minima.
struct Factors {
    float scale;
    float min_scale;
    int first, second;
    int min_first, min_second;
};

// Plane sizes are per eight groups. HALVES: the halves of a group have scales of their own. MINS: there
// are minima. SCALED: there are integer scales. OFFSET: what is to be subtracted from codes.
template <int CODES_, int HIGH_, int SCALES_, int BLOCKS_>
struct PlaneSizes {
    enum { CODES = CODES_, HIGH = HIGH_, SCALES = SCALES_, BLOCKS = BLOCKS_ };
};

template <bool HALVES_, bool MINS_, bool SCALED_, int OFFSET_>
struct Kind {
    enum { HALVES = HALVES_, MINS = MINS_, SCALED = SCALED_, OFFSET = OFFSET_ };
};

template <int ID>
struct Format;

// The planes of one row.
struct Row {
    const u8 *codes, *high, *scales, *blocks;
};

template <class F>
DEVICE Row row_of(const Matrix& w, int row) {
    u64 groups = w.cols / 32, at = row;
    Row r;
    r.codes = w.codes + at * (groups * F::CODES / 8);
    r.high = w.codes + w.high + at * (groups * F::HIGH / 8);
    r.scales = w.codes + w.scales + at * (groups * F::SCALES / 8);
    r.blocks = w.codes + w.blocks + at * (groups * F::BLOCKS / 8);
    return r;
}

// Codes of four bits: byte i of 16 has value i low and value 16 + i high.
DEVICE void unpack_nibbles(const u8* at, int (&q)[8]) {
    uint4 v = load16(at);
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        q[i] = static_cast<int>(words[i] & 0x0f0f0f0fu);
        q[4 + i] = static_cast<int>(words[i] >> 4 & 0x0f0f0f0fu);
    }
}

// Codes of two bits: value 8 k + j in bits 2 k of byte j of 8.
DEVICE void unpack_pairs(const u8* at, int (&q)[8]) {
    uint2 v = load8(at);
    for (int k = 0; k < 4; k++) {
        q[2 * k] = static_cast<int>(v.x >> 2 * k & 0x03030303u);
        q[2 * k + 1] = static_cast<int>(v.y >> 2 * k & 0x03030303u);
    }
}

// One more bit on top: that of value 4 n + j is bit 8 j + n.
DEVICE void add_bits(const u8* at, int shift, int (&q)[8]) {
    u32 bits = load4(at);
    for (int n = 0; n < 8; n++) q[n] |= static_cast<int>((bits >> n & 0x01010101u) << shift);
}

// Codes that point into a table of sixteen signed bytes; value i is nibble i of the 128 bits.
DEVICE void look_up_nibbles(const u8* at, const u32 (&table)[4], int (&q)[8]) {
    uint4 v = load16(at);
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 8; i++) {
        u32 sel = words[i / 2] >> i % 2 * 16 & 0xffff;
        u32 low = permute_bytes(table[0], table[1], sel & 0x7777);
        u32 high = permute_bytes(table[2], table[3], sel & 0x7777);
        q[i] = static_cast<int>(permute_bytes(low, high, 0x3210 + ((sel & 0x8888) >> 1)));
    }
}

// Four magnitudes, negated where one of four bits is set.
DEVICE int with_signs(u32 magnitudes, u32 bits) {
    u32 ones = (bits & 15) * 0x00204081u & 0x01010101u;
    return static_cast<int>((magnitudes ^ ones * 0xff) + ones);
}

// The eighth sign of seven makes the number of minus signs even.
DEVICE u32 all_signs(u32 seven) {
    u32 parities = 0x6996;  // of the numbers below 16
    return seven | (parities >> ((seven ^ seven >> 4) & 15) & 1) << 7;
}

// Number `index` of numbers of 12 bits that lie without gaps.
DEVICE u32 twelve_bits(const u8* at, int index) {
    const u8* low = at + index * 3 / 2;
    u32 word = low[0] | static_cast<u32>(low[1]) << 8;
    return word >> index % 2 * 4 & 0xfff;
}

DEVICE Factors plain_scale(float scale) {
    Factors f = {scale, 0.0f, 1, 1, 0, 0};
    return f;
}

template <> struct Format<Q8_0> : PlaneSizes<PLANES_Q8_0>, Kind<false, false, false, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint4 a = load16(row.codes + group * 32), b = load16(row.codes + group * 32 + 16);
        const u32 words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        for (int i = 0; i < 8; i++) q[i] = static_cast<int>(words[i]);
        return plain_scale(half_to_float(load2(row.scales + group * 2)));
    }
};

template <> struct Format<Q4_0> : PlaneSizes<PLANES_Q4_0>, Kind<false, false, false, 8> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_nibbles(row.codes + group * 16, q);
        return plain_scale(half_to_float(load2(row.scales + group * 2)));
    }
};

template <> struct Format<IQ4_NL> : PlaneSizes<PLANES_IQ4_NL>, Kind<false, false, false, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        look_up_nibbles(row.codes + group * 16, IQ4_WORDS, q);
        return plain_scale(half_to_float(load2(row.scales + group * 2)));
    }
};

template <> struct Format<MXFP4> : PlaneSizes<PLANES_MXFP4>, Kind<false, false, false, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        look_up_nibbles(row.codes + group * 16, E2M1_WORDS, q);
        // Half of the power of two, since the table has the values doubled.
        u32 e = row.scales[group];
        return plain_scale(bits_to_float(e < 2 ? 0x00200000u << e : (e - 1) << 23));
    }
};

// Scale and minimum of a group, 6 bits each, and of the block, f16 each.
DEVICE Factors scale_and_min(const Row& row, int group) {
    u32 both = twelve_bits(row.scales + group / 8 * 12, group % 8);
    u32 block = load4(row.blocks + group / 8 * 4);
    int scale = both & 63, min = both >> 6;
    Factors f = {half_to_float(block & 0xffff), half_to_float(block >> 16), scale, scale, min, min};
    return f;
}

template <> struct Format<Q4_K> : PlaneSizes<PLANES_Q4_K>, Kind<false, true, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_nibbles(row.codes + group * 16, q);
        return scale_and_min(row, group);
    }
};

template <> struct Format<Q5_K> : PlaneSizes<PLANES_Q5_K>, Kind<false, true, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_nibbles(row.codes + group * 16, q);
        add_bits(row.high + group * 4, 4, q);
        return scale_and_min(row, group);
    }
};

template <> struct Format<Q6_K> : PlaneSizes<PLANES_Q6_K>, Kind<true, false, true, 32> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_nibbles(row.codes + group * 16, q);
        int high[8];
        unpack_pairs(row.high + group * 8, high);
        for (int i = 0; i < 8; i++) q[i] |= high[i] << 4;
        u32 scales = load2(row.scales + group * 2);
        Factors f = {half_to_float(load2(row.blocks + group / 8 * 2)), 0.0f,
                     static_cast<signed char>(scales & 0xff), static_cast<signed char>(scales >> 8), 0, 0};
        return f;
    }
};

template <> struct Format<Q3_K> : PlaneSizes<PLANES_Q3_K>, Kind<true, false, true, 4> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_pairs(row.codes + group * 8, q);
        add_bits(row.high + group * 4, 2, q);
        u32 scales = twelve_bits(row.scales + group / 8 * 12, group % 8);
        Factors f = {half_to_float(load2(row.blocks + group / 8 * 2)), 0.0f,
                     static_cast<int>(scales & 63) - 32, static_cast<int>(scales >> 6) - 32, 0, 0};
        return f;
    }
};

template <> struct Format<Q2_K> : PlaneSizes<PLANES_Q2_K>, Kind<true, true, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        unpack_pairs(row.codes + group * 8, q);
        u32 s = load2(row.scales + group * 2), block = load4(row.blocks + group / 8 * 4);
        Factors f = {half_to_float(block & 0xffff), half_to_float(block >> 16),
                     static_cast<int>(s & 15), static_cast<int>(s >> 8 & 15),
                     static_cast<int>(s >> 4 & 15), static_cast<int>(s >> 12)};
        return f;
    }
};

template <> struct Format<IQ4_XS> : PlaneSizes<PLANES_IQ4_XS>, Kind<false, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        look_up_nibbles(row.codes + group * 16, IQ4_WORDS, q);
        const u8* scales = row.scales + group / 8 * 6;
        int g = group % 8;
        int scale = (scales[2 + g / 2] >> g % 2 * 4 & 15) | (load2(scales) >> 2 * g & 3) << 4;
        Factors f = {half_to_float(load2(row.blocks + group / 8 * 2)), 0.0f, scale - 32, scale - 32, 0, 0};
        return f;
    }
};

// Scales of the IQ2 and IQ3 types are odd numbers, of a fraction of the block's scale.
DEVICE Factors odd_scales(const u8* block, float fraction, u32 first, u32 second) {
    Factors f = {half_to_float(load2(block)) * fraction, 0.0f, static_cast<int>(2 * first + 1),
                 static_cast<int>(2 * second + 1), 0, 0};
    return f;
}

template <> struct Format<IQ2_XXS> : PlaneSizes<PLANES_IQ2_XXS>, Kind<false, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint2 v = load8(row.codes + group * 8);
        for (int p = 0; p < 4; p++) {
            const u32* point = IQ2_XXS_POINTS[v.x >> 8 * p & 255];
            u32 signs = all_signs(v.y >> 7 * p & 127);
            q[2 * p] = with_signs(point[0], signs);
            q[2 * p + 1] = with_signs(point[1], signs >> 4);
        }
        return odd_scales(row.blocks + group / 8 * 2, 0.125f, v.y >> 28, v.y >> 28);
    }
};

template <> struct Format<IQ2_XS> : PlaneSizes<PLANES_IQ2_XS>, Kind<true, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint2 v = load8(row.codes + group * 8);
        for (int p = 0; p < 4; p++) {
            u32 word = (p < 2 ? v.x : v.y) >> p % 2 * 16 & 0xffff;
            const u32* point = IQ2_XS_POINTS[word & 511];
            u32 signs = all_signs(word >> 9);
            q[2 * p] = with_signs(point[0], signs);
            q[2 * p + 1] = with_signs(point[1], signs >> 4);
        }
        u32 scales = row.scales[group];
        return odd_scales(row.blocks + group / 8 * 2, 0.125f, scales & 15, scales >> 4);
    }
};

// Codes: low bits of four points' numbers, then a byte of signs for each. Scales: of each block eight
// bytes of high bits, then eight of scales.
template <> struct Format<IQ2_S> : PlaneSizes<PLANES_IQ2_S>, Kind<true, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint2 v = load8(row.codes + group * 8);
        const u8* at = row.scales + group / 8 * 16 + group % 8;
        u32 high = at[0], scales = at[8];
        for (int p = 0; p < 4; p++) {
            const u32* point = IQ2_S_POINTS[(v.x >> 8 * p & 255) | (high >> 2 * p & 3) << 8];
            u32 signs = v.y >> 8 * p & 255;
            q[2 * p] = with_signs(point[0], signs);
            q[2 * p + 1] = with_signs(point[1], signs >> 4);
        }
        return odd_scales(row.blocks + group / 8 * 2, 0.125f, scales & 15, scales >> 4);
    }
};

template <> struct Format<IQ3_XXS> : PlaneSizes<PLANES_IQ3_XXS>, Kind<false, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint2 v = load8(row.codes + group * 8);
        u32 word = load4(row.high + group * 4);
        for (int p = 0; p < 8; p++) {
            u32 number = (p < 4 ? v.x : v.y) >> p % 4 * 8 & 255;
            q[p] = with_signs(IQ3_XXS_POINTS[number], all_signs(word >> p / 2 * 7 & 127) >> p % 2 * 4);
        }
        return odd_scales(row.blocks + group / 8 * 2, 0.25f, word >> 28, word >> 28);
    }
};

// High: a bit of sign for each value. Scales: a ninth bit for each point. Blocks: d, then four bits of
// scale for each group.
template <> struct Format<IQ3_S> : PlaneSizes<PLANES_IQ3_S>, Kind<false, false, true, 0> {
    static DEVICE Factors load(const Row& row, int group, int (&q)[8]) {
        uint2 v = load8(row.codes + group * 8);
        u32 signs = load4(row.high + group * 4), ninth = row.scales[group];
        for (int p = 0; p < 8; p++) {
            u32 number = ((p < 4 ? v.x : v.y) >> p % 4 * 8 & 255) | (ninth >> p & 1) << 8;
            q[p] = with_signs(IQ3_S_POINTS[number], signs >> p * 4);
        }
        const u8* block = row.blocks + group / 8 * 6;
        u32 scale = block[2 + group % 8 / 2] >> group % 2 * 4 & 15;
        return odd_scales(block, 1.0f, scale, scale);
    }
};

// Plain floats: how many values 16 bytes hold, and what they are. Of those of 16 bits also PARTS: how many bf16 a
// value is the sum of, and these, two values a word.
template <int ID>
struct Plain;

template <> struct Plain<F32> {
    enum { VALUES = 4 };
    static DEVICE void load(const u8* at, float (&x)[4]) {
        uint4 v = load16(at);
        x[0] = bits_to_float(v.x), x[1] = bits_to_float(v.y);
        x[2] = bits_to_float(v.z), x[3] = bits_to_float(v.w);
    }
};

#ifdef HAS_BF16_PRODUCTS
// Two values as bf16, and what that leaves of them as bf16 again: together the first 16 bits of each.
DEVICE void split(float low, float high, u32& parts, u32& rest) {
    parts = pack_bf16(low, high);
    rest = pack_bf16(low - bits_to_float(parts << 16), high - bits_to_float(parts & 0xffff0000u));
}
#endif

template <> struct Plain<F16> {
    enum { VALUES = 8, PARTS = 2 };
    static DEVICE void load(const u8* at, float (&x)[8]) {
        uint4 v = load16(at);
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 8; i++) x[i] = half_to_float(words[i / 2] >> i % 2 * 16 & 0xffff);
    }
#ifdef HAS_BF16_PRODUCTS
    // Eleven bits are eight and three.
    static DEVICE void load_parts(const u8* at, u32 (&parts)[PARTS][4]) {
        float x[8];
        load(at, x);
        for (int i = 0; i < 4; i++) split(x[2 * i], x[2 * i + 1], parts[0][i], parts[1][i]);
    }
#endif
};

template <> struct Plain<BF16> {
    enum { VALUES = 8, PARTS = 1 };
    static DEVICE void load(const u8* at, float (&x)[8]) {
        uint4 v = load16(at);
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 8; i++) x[i] = bf16_to_float(words[i / 2] >> i % 2 * 16 & 0xffff);
    }
#ifdef HAS_BF16_PRODUCTS
    static DEVICE void load_parts(const u8* at, u32 (&parts)[PARTS][4]) {
        uint4 v = load16(at);
        parts[0][0] = v.x, parts[0][1] = v.y, parts[0][2] = v.z, parts[0][3] = v.w;
    }
#endif
};
