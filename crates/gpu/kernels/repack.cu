// Brings blocks, as they lie in files, into the planes that kernels read (see formats.cuh). Bytes move,
// values do not. A thread a group of 32 values; this runs once a weight, while it is uploaded.
#include "formats.cuh"

#define REPACK_THREADS 128

struct RepackArgs {
    const u8* blocks;  // [rows] of whole blocks
    Matrix to;
    int first_row;     // of `to`, for the first row of `blocks`
    int rows;
};

// The planes of a group, to be written.
struct Target {
    u8 *codes, *high, *scales, *blocks;
};

template <class F>
DEVICE Target target_of(const Matrix& w, int row) {
    Row r = row_of<F>(w, row);
    Target t = {const_cast<u8*>(r.codes), const_cast<u8*>(r.high), const_cast<u8*>(r.scales),
                const_cast<u8*>(r.blocks)};
    return t;
}

DEVICE void copy(u8* to, const u8* from, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = from[i];
}

// Writers of codes; `code(i)` is that of value i.
template <class Code>
DEVICE void pack_nibbles(u8* to, Code code) {
    for (int i = 0; i < 16; i++) to[i] = static_cast<u8>((code(i) & 15) | (code(16 + i) & 15) << 4);
}
template <class Code>
DEVICE void pack_nibbles_in_order(u8* to, Code code) {
    for (int i = 0; i < 16; i++) to[i] = static_cast<u8>((code(2 * i) & 15) | (code(2 * i + 1) & 15) << 4);
}
template <class Code>
DEVICE void pack_pairs(u8* to, Code code) {
    for (int j = 0; j < 8; j++) {
        u32 byte = 0;
        for (int k = 0; k < 4; k++) byte |= (code(8 * k + j) & 3) << 2 * k;
        to[j] = static_cast<u8>(byte);
    }
}
template <class Code>
DEVICE void pack_bits(u8* to, Code code) {
    for (int j = 0; j < 4; j++) {
        u32 byte = 0;
        for (int n = 0; n < 8; n++) byte |= (code(4 * n + j) & 1) << n;
        to[j] = static_cast<u8>(byte);
    }
}

// Two numbers of 12 bits, of group `g` and the next one: for even groups.
DEVICE void pack_twelves(u8* to, int g, u32 even, u32 odd) {
    u8* at = to + g * 3 / 2;
    at[0] = static_cast<u8>(even);
    at[1] = static_cast<u8>((even >> 8 & 15) | (odd & 15) << 4);
    at[2] = static_cast<u8>(odd >> 4);
}

template <int ID>
struct Repack;

// Types whose block is one group: a scale, then nibbles.
template <> struct Repack<Q8_0> {
    enum { VALUES = 32, BYTES = 34 };
    static DEVICE void group(const u8* block, int, int at, const Target& to) {
        copy(to.scales + at * 2, block, 2);
        copy(to.codes + at * 32, block + 2, 32);
    }
};
template <> struct Repack<Q4_0> {
    enum { VALUES = 32, BYTES = 18 };
    static DEVICE void group(const u8* block, int, int at, const Target& to) {
        copy(to.scales + at * 2, block, 2);
        copy(to.codes + at * 16, block + 2, 16);
    }
};
struct RepackTable {
    static DEVICE void codes(const u8* nibbles, u8* to) {
        pack_nibbles_in_order(to, [=](int i) -> u32 { return nibbles[i % 16] >> i / 16 * 4; });
    }
};
template <> struct Repack<IQ4_NL> {
    enum { VALUES = 32, BYTES = 18 };
    static DEVICE void group(const u8* block, int, int at, const Target& to) {
        copy(to.scales + at * 2, block, 2);
        RepackTable::codes(block + 2, to.codes + at * 16);
    }
};
template <> struct Repack<MXFP4> {
    enum { VALUES = 32, BYTES = 17 };
    static DEVICE void group(const u8* block, int, int at, const Target& to) {
        to.scales[at] = block[0];
        RepackTable::codes(block + 1, to.codes + at * 16);
    }
};

// A 6-bit scale below a 6-bit minimum.
DEVICE u32 scale_below_min(const u8* packed, int g) {
    if (g < 4) return (packed[g] & 63) | static_cast<u32>(packed[4 + g] & 63) << 6;
    u32 both = packed[4 + g];
    u32 scale = (both & 15) | (packed[g - 4] >> 6) << 4, min = both >> 4 | (packed[g] >> 6) << 4;
    return scale | min << 6;
}
DEVICE void repack_scales_and_mins(const u8* block, int g, int at, const Target& to) {
    if (g == 0) copy(to.blocks + at / 8 * 4, block, 4);
    if (g % 2 == 0) {
        pack_twelves(to.scales + at / 8 * 12, g, scale_below_min(block + 4, g), scale_below_min(block + 4, g + 1));
    }
}
template <> struct Repack<Q4_K> {
    enum { VALUES = 256, BYTES = 144 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        repack_scales_and_mins(block, g, at, to);
        const u8* q = block + 16 + g / 2 * 32;
        pack_nibbles(to.codes + at * 16, [=](int i) -> u32 { return q[i] >> g % 2 * 4; });
    }
};
template <> struct Repack<Q5_K> {
    enum { VALUES = 256, BYTES = 176 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        repack_scales_and_mins(block, g, at, to);
        const u8 *high = block + 16, *q = block + 48 + g / 2 * 32;
        pack_nibbles(to.codes + at * 16, [=](int i) -> u32 { return q[i] >> g % 2 * 4; });
        pack_bits(to.high + at * 4, [=](int i) -> u32 { return high[i] >> g; });
    }
};
template <> struct Repack<Q6_K> {
    enum { VALUES = 256, BYTES = 210 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        int half = g / 4, quarter = g % 4;
        const u8 *low = block + half * 64 + quarter % 2 * 32, *high = block + 128 + half * 32;
        pack_nibbles(to.codes + at * 16, [=](int i) -> u32 { return low[i] >> quarter / 2 * 4; });
        pack_pairs(to.high + at * 8, [=](int i) -> u32 { return high[i] >> quarter * 2; });
        copy(to.scales + at * 2, block + 192 + g * 2, 2);
        if (g == 0) copy(to.blocks + at / 8 * 2, block + 208, 2);
    }
};
DEVICE u32 q3_scales(const u8* packed, int g) {
    u32 both = 0;
    for (int half = 0; half < 2; half++) {
        int s = 2 * g + half;
        u32 scale = (packed[s % 8] >> s / 8 * 4 & 15) | (packed[8 + s % 4] >> s / 4 * 2 & 3) << 4;
        both |= scale << 6 * half;
    }
    return both;
}
template <> struct Repack<Q3_K> {
    enum { VALUES = 256, BYTES = 110 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        const u8 *high = block, *low = block + 32 + g / 4 * 32;
        pack_pairs(to.codes + at * 8, [=](int i) -> u32 { return low[i] >> g % 4 * 2; });
        pack_bits(to.high + at * 4, [=](int i) -> u32 { return high[i] >> g; });
        if (g % 2 == 0) pack_twelves(to.scales + at / 8 * 12, g, q3_scales(block + 96, g), q3_scales(block + 96, g + 1));
        if (g == 0) copy(to.blocks + at / 8 * 2, block + 108, 2);
    }
};
template <> struct Repack<Q2_K> {
    enum { VALUES = 256, BYTES = 84 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        const u8* low = block + 16 + g / 4 * 32;
        pack_pairs(to.codes + at * 8, [=](int i) -> u32 { return low[i] >> g % 4 * 2; });
        copy(to.scales + at * 2, block + g * 2, 2);
        if (g == 0) copy(to.blocks + at / 8 * 4, block + 80, 4);
    }
};
template <> struct Repack<IQ4_XS> {
    enum { VALUES = 256, BYTES = 136 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        RepackTable::codes(block + 8 + g * 16, to.codes + at * 16);
        if (g != 0) return;
        copy(to.blocks + at / 8 * 2, block, 2);
        copy(to.scales + at / 8 * 6, block + 2, 6);
    }
};
template <> struct Repack<IQ2_XXS> {
    enum { VALUES = 256, BYTES = 66 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        copy(to.codes + at * 8, block + 2 + g * 8, 8);
        if (g == 0) copy(to.blocks + at / 8 * 2, block, 2);
    }
};
template <> struct Repack<IQ2_XS> {
    enum { VALUES = 256, BYTES = 74 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        copy(to.codes + at * 8, block + 2 + g * 8, 8);
        to.scales[at] = block[66 + g];
        if (g == 0) copy(to.blocks + at / 8 * 2, block, 2);
    }
};
template <> struct Repack<IQ2_S> {
    enum { VALUES = 256, BYTES = 82 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        copy(to.codes + at * 8, block + 2 + g * 4, 4);
        copy(to.codes + at * 8 + 4, block + 34 + g * 4, 4);
        if (g != 0) return;
        copy(to.scales + at * 2, block + 66, 16);
        copy(to.blocks + at / 8 * 2, block, 2);
    }
};
template <> struct Repack<IQ3_XXS> {
    enum { VALUES = 256, BYTES = 98 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        copy(to.codes + at * 8, block + 2 + g * 8, 8);
        copy(to.high + at * 4, block + 66 + g * 4, 4);
        if (g == 0) copy(to.blocks + at / 8 * 2, block, 2);
    }
};
template <> struct Repack<IQ3_S> {
    enum { VALUES = 256, BYTES = 110 };
    static DEVICE void group(const u8* block, int g, int at, const Target& to) {
        copy(to.codes + at * 8, block + 2 + g * 8, 8);
        to.scales[at] = block[66 + g];
        copy(to.high + at * 4, block + 74 + g * 4, 4);
        if (g != 0) return;
        copy(to.blocks + at / 8 * 6, block, 2);
        copy(to.blocks + at / 8 * 6 + 2, block + 106, 4);
    }
};

template <int ID>
DEVICE void repack_group(const RepackArgs& args, u64 index) {
    int groups = args.to.cols / 32, per_block = Repack<ID>::VALUES / 32;
    int row = static_cast<int>(index / groups), at = static_cast<int>(index % groups);
    u64 block = static_cast<u64>(row) * (groups / per_block) + at / per_block;
    Target to = target_of<Format<ID>>(args.to, args.first_row + row);
    Repack<ID>::group(args.blocks + block * Repack<ID>::BYTES, at % per_block, at, to);
}

KERNEL_OF(REPACK_THREADS, 2, repack, RepackArgs) {
    u64 index = static_cast<u64>(blockIdx.x) * REPACK_THREADS + threadIdx.x;
    if (index >= static_cast<u64>(args.rows) * (args.to.cols / 32)) return;
    switch (args.to.format) {
#define QUANTISED(ID) case ID: repack_group<ID>(args, index); break;
#include "quantised.cuh"
#undef QUANTISED
    }
}
