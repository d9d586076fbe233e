// The most likely tokens of rows of logits: what a sampler that keeps few of them needs, so that a row of a
// quarter of a million need not go to the host.
//
// The logits are looked at once, by groups. At least as many groups as tokens are wanted have a
// logit that is not below the last of their largest ones; so the wanted are all in groups whose largest is not
// below it, and these are few. All that are not below it go to the host, which orders them.
#include "compat.cuh"

#define BEST_THREADS 256
#define PICK_THREADS 1024
// Bins of a byte of a key, a few for each lane of a warp.
#define BINS 256

struct BestArgs {
    const float* logits;  // [rows, cols]
    u32* largest;         // [rows, groups]: the key of each group's largest logit
    u32* out;             // [rows, 1 + 2 room]: how many, then tokens, then the bits of their logits
    int cols, limit;      // tokens from `limit` on do not count
    int group, groups;    // logits of a group, and groups of a row
    int count, room;
};

// Larger for larger numbers; 0 for what cannot be chosen. The two zeros are equal.
DEVICE u32 key_of(float value) {
    u32 bits = float_to_bits(value + 0.0f);
    if ((bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u) return 0;
    if (bits == 0x80000000u) bits = 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// A warp a group.
KERNEL_OF(BEST_THREADS, 4, group_largest, BestArgs) {
    int group = blockIdx.x * (BEST_THREADS / WARP) + threadIdx.x / WARP;
    if (group >= args.groups) return;
    const float* row = args.logits + static_cast<u64>(blockIdx.y) * args.cols;
    int end = smaller((group + 1) * args.group, args.limit);
    u32 largest = 0;
    for (int i = group * args.group + threadIdx.x % WARP; i < end; i += WARP) {
        largest = larger(largest, key_of(row[i]));
    }
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        largest = larger(largest, static_cast<u32>(shuffle_xor(static_cast<int>(largest), mask)));
    }
    if (threadIdx.x % WARP == 0) args.largest[static_cast<u64>(blockIdx.y) * args.groups + group] = largest;
}

struct PickShared {
    int bins[BINS];
    u32 prefix;
    int left, found;
};

// One warp: which bin holds the one that `left` are not below, counted from the last bin; the rest of
// `left` in that bin.
DEVICE void find_bin(PickShared& shared, int shift) {
    const int own = BINS / WARP;
    int lane = threadIdx.x, first = BINS - (lane + 1) * own, sum = 0;
    for (int i = 0; i < own; i++) sum += shared.bins[first + i];
    int before = 0;
    for (int other = 0; other < WARP; other++) {
        int of_other = shuffle(sum, other, WARP);
        if (other < lane) before += of_other;
    }
    int left = shared.left;
    sync_warp();
    if (before < left && left <= before + sum) {
        int bin = first + own;
        left -= before;
        do {
            bin--;
            left -= shared.bins[bin];
        } while (left > 0);
        shared.left = left + shared.bins[bin];
        shared.prefix |= static_cast<u32>(bin) << shift;
    }
}

// A block a row: finds the least of the `count` largest keys byte by byte, then lists what is not below it.
KERNEL_OF(PICK_THREADS, 1, pick_best, BestArgs) {
    SHARED(PickShared, shared);
    const u32* largest = args.largest + static_cast<u64>(blockIdx.y) * args.groups;
    if (threadIdx.x == 0) {
        shared.prefix = 0;
        shared.left = args.count;
        shared.found = 0;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < BINS) shared.bins[threadIdx.x] = 0;
        sync_block();
        u32 prefix = shared.prefix;
        for (int i = threadIdx.x; i < args.groups; i += PICK_THREADS) {
            u32 key = largest[i];
            // Of those that begin as the wanted one does.
            if (shift == 24 || (key ^ prefix) >> (shift + 8) == 0) add_shared(&shared.bins[key >> shift & 255], 1);
        }
        sync_block();
        if (threadIdx.x < WARP) find_bin(shared, shift);
        sync_block();
    }
    // Nothing that cannot be chosen, where there are fewer than are wanted.
    u32 least = larger(shared.prefix, 1u);
    u32* out = args.out + static_cast<u64>(blockIdx.y) * (1 + 2 * args.room);
    const float* row = args.logits + static_cast<u64>(blockIdx.y) * args.cols;
    for (int group = threadIdx.x / WARP; group < args.groups; group += PICK_THREADS / WARP) {
        if (largest[group] < least) continue;
        int end = smaller((group + 1) * args.group, args.limit);
        for (int i = group * args.group + threadIdx.x % WARP; i < end; i += WARP) {
            float value = row[i];
            if (key_of(value) < least) continue;
            int place = add_shared(&shared.found, 1);
            if (place < args.room) {
                out[1 + place] = static_cast<u32>(i);
                out[1 + args.room + place] = float_to_bits(value);
            }
        }
    }
    sync_block();
    if (threadIdx.x == 0) out[0] = static_cast<u32>(shared.found);
}
