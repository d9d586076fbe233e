// Activations as products read them: f32, and beside them signed bytes with a scale per 32 values.
//
// A group's scale is its largest magnitude / 127, its codes are the values over it, rounded to nearest
// even. `sums` holds the sums of the codes of its two halves (16 bits each): products with weights that
// have an offset or a minimum need them.
#pragma once
#include "compat.cuh"

// Values that share a scale.
#define GROUP 32

struct alignas(8) GroupScale {
    float scale;
    int sums;
};

DEVICE int first_sum(int sums) { return static_cast<short>(sums & 0xffff); }
DEVICE int second_sum(int sums) { return sums >> 16; }

// A group's scale and what its values are multiplied with, by its largest magnitude.
DEVICE float group_scale(float largest) { return largest / 127.0f; }
DEVICE float group_inverse(float largest) { return largest > 0.0f ? 127.0f / largest : 0.0f; }

// Bounded: where the largest value is subnormal or infinite, products are not.
DEVICE int group_code(float x, float inverse) {
    return static_cast<int>(fminf(fmaxf(rintf(x * inverse), -127.0f), 127.0f));
}

DEVICE int both_sums(int first, int second) {
    return (first & 0xffff) | static_cast<int>(static_cast<u32>(second) << 16);
}

// Eight neighbouring lanes quantise a group, four values each. All lanes of the warp must call this;
// those beyond the row pass `writes` = false.
DEVICE void quantise_group(const float (&x)[4], int group, bool writes, u32* codes, GroupScale* scales) {
    float largest = fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3])));
    for (int mask = 4; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
    float inverse = group_inverse(largest);
    u32 word = 0;
    int sum = 0;
    for (int i = 0; i < 4; i++) {
        int q = group_code(x[i], inverse);
        sum += q;
        word |= static_cast<u32>(q & 0xff) << (8 * i);
    }
    for (int mask = 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    int other = shuffle_xor(sum, 4);
    int lane = threadIdx.x % 8;
    if (!writes) return;
    codes[group * 8 + lane] = word;
    if (lane == 0) {
        scales[group].scale = group_scale(largest);
        scales[group].sums = both_sums(sum, other);
    }
}
