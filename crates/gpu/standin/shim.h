// Kernels on the CPU: what compat.cuh needs, for tests.
//
// A launch runs its blocks one after the other in a random order, the threads of a block as fibres, also
// in a random order. Between barriers and shuffles a thread runs alone, so what is missing is a barrier,
// not a race, and shows as a wrong result. Shared memory begins as garbage. Alignment of wide loads is
// checked. What this cannot show: timing, weak memory ordering, limits of registers.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
struct Index3 { unsigned x, y, z; };

namespace shim {
// Of the running thread and its block.
extern Index3 thread_index, block_index, block_size, grid_size;

// Waits for all threads of the block that have not returned; of the warp, likewise.
void block_barrier();
void warp_barrier();
// Where the lanes of this warp leave up to MOST_WORDS words each for each other, for the turn that is on.
constexpr unsigned MOST_WORDS = 12;
u32* warp_words();
// What every thread begins with, on a device that brings kernels there while earlier ones run.
void wait_for_earlier();
// Copies that are made when the thread waits for their group, and not before.
void copy_later(void* to, const void* from, size_t bytes);
void end_copies();
void wait_for_copies(size_t groups_left);
unsigned lane();
// The block's shared memory: of this size, garbage at first.
void* shared_memory(size_t bytes);

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "shim: %s (block %u %u %u, thread %u)\n", what, block_index.x, block_index.y,
            block_index.z, thread_index.x);
    abort();
}

// A kernel takes one struct.
typedef void (*Call)(const void* args);
struct Kernel {
    Call call;
    size_t args_size;
};
struct Registration { Registration(const char* name, Kernel kernel); };

template <auto FUNCTION>
struct Launcher;
template <class Args, void (*FUNCTION)(Args)>
struct Launcher<FUNCTION> {
    static void call(const void* args) { FUNCTION(*static_cast<const Args*>(args)); }
    static constexpr Kernel kernel = {call, sizeof(Args)};
};

template <class T>
T exchange(T value, unsigned from) {
    static_assert(sizeof(T) == 4);
    u32* words = warp_words();
    memcpy(&words[lane()], &value, 4);
    warp_barrier();
    if (from >= 32) fail("a shuffle reads a lane that does not exist");
    T other;
    memcpy(&other, &words[from], 4);
    return other;
}

// The words of all lanes, until they exchange others.
template <class T, size_t N>
const T* exchange_all(const T (&mine)[N]) {
    static_assert(sizeof(T) == 4 && N <= MOST_WORDS);
    u32* words = warp_words();
    memcpy(words + lane() * N, mine, sizeof(mine));
    warp_barrier();
    return reinterpret_cast<const T*>(words);
}

template <class T>
T load(const void* at) {
    if (reinterpret_cast<uintptr_t>(at) % sizeof(T) != 0) fail("a misaligned load");
    return *static_cast<const T*>(at);
}
inline uint4 load16(const void* at) {
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0) fail("a misaligned load");
    return *static_cast<const uint4*>(at);
}
}  // namespace shim

#define threadIdx shim::thread_index
#define blockIdx shim::block_index
#define blockDim shim::block_size
#define gridDim shim::grid_size

#define KERNEL(name, Args)                                                                           \
    static void name##_body(const Args& args);                                                       \
    static void name(Args args) {                                                                    \
        shim::wait_for_earlier();                                                                    \
        name##_body(args);                                                                           \
    }                                                                                                \
    static shim::Registration register_##name(#name, shim::Launcher<name>::kernel);                  \
    static void name##_body(const Args& args)
#define KERNEL_OF(threads, blocks, name, Args) KERNEL(name, Args)
#define SHARED(type, name) type& name = *static_cast<type*>(shim::shared_memory(sizeof(type)))
#define DEVICE inline
#define TABLE static const

inline float bits_to_float(u32 bits) { float value; memcpy(&value, &bits, 4); return value; }
inline u32 float_to_bits(float value) { u32 bits; memcpy(&bits, &value, 4); return bits; }

inline float half_to_float(u16 bits) {
    u32 sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fff;
    if (magnitude < 0x400) {
        float value = static_cast<float>(magnitude) / 16777216.0f;
        return sign ? -value : value;
    }
    u32 wide = magnitude < 0x7c00 ? (magnitude << 13) + (112u << 23) : (magnitude << 13 | 0x7f800000u);
    return bits_to_float(sign | wide);
}

inline u16 float_to_half(float value) {
    u32 bits = float_to_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<u16>(sign | 0x7fff);
    if (magnitude >= 0x477ff000) return static_cast<u16>(sign | 0x7c00);
    if (magnitude < 0x38800000) {
        float units = bits_to_float(magnitude) * 16777216.0f;  // of 2^-24
        return static_cast<u16>(sign | static_cast<u32>(rintf(units)));
    }
    u32 rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return static_cast<u16>(sign | (rounded - (112u << 23)) >> 13);
}

inline int dot4(int a, int b, int sum) {
    for (int i = 0; i < 4; i++) sum += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
    return sum;
}

inline u32 permute_bytes(u32 low, u32 high, u32 selector) {
    u64 bytes = low | static_cast<u64>(high) << 32;
    u32 out = 0;
    for (int i = 0; i < 4; i++) out |= static_cast<u32>(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return out;
}

template <class T>
T shuffle(T value, int lane, int width) {
    unsigned base = shim::lane() / width * width;
    return shim::exchange(value, base + static_cast<unsigned>(lane) % width);
}
template <class T>
T shuffle_xor(T value, int mask) { return shim::exchange(value, shim::lane() ^ static_cast<unsigned>(mask)); }
// As in compat.cuh, by the lanes' telling each other what they have.
inline void multiply_16x8x16(int (&d)[4], u32 low, u32 high, u32 b) {
    const int mine[3] = {static_cast<int>(low), static_cast<int>(high), static_cast<int>(b)};
    const int* all = shim::exchange_all(mine);
    unsigned row = shim::lane() / 4 * 4, column = shim::lane() % 4 * 8;
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 4; k++) d[i] = dot4(all[(row + k) * 3 + i / 2], all[(column + i % 2 * 4 + k) * 3 + 2], d[i]);
    }
}
// Products of numbers of 16 bits are exact in f32; in which order a device adds them is its own. `mine`: A's eight
// numbers of this lane and B's four.
inline void multiply_16x8x16(float (&d)[4], const float (&mine)[12]) {
    const float* all = shim::exchange_all(mine);
    unsigned row = shim::lane() / 4 * 4, column = shim::lane() % 4 * 8;
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned k = 0; k < 4; k++) {
                const float* x = all + (row + k) * 12 + half * 4 + i / 2 * 2;
                const float* y = all + (column + i % 2 * 4 + k) * 12 + 8 + half * 2;
                d[i] += x[0] * y[0];
                d[i] += x[1] * y[1];
            }
        }
    }
}
inline void multiply_16x8x16(float (&d)[4], const u32 (&a)[4], u32 low, u32 high) {
    const u32 words[6] = {a[0], a[1], a[2], a[3], low, high};
    float mine[12];
    for (int i = 0; i < 12; i++) mine[i] = half_to_float(static_cast<u16>(words[i / 2] >> i % 2 * 16));
    multiply_16x8x16(d, mine);
}
#define HAS_BF16_PRODUCTS
inline u32 pack_bf16(float low, float high) {
    u32 halves[2] = {float_to_bits(low), float_to_bits(high)};
    for (u32& bits : halves) {
        bool is_number = (bits & 0x7fffffffu) <= 0x7f800000u;
        bits = is_number ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;
    }
    return halves[0] | halves[1] << 16;
}
inline void multiply_bf16_16x8x16(float (&d)[4], const u32 (&a)[4], u32 low, u32 high) {
    const u32 words[6] = {a[0], a[1], a[2], a[3], low, high};
    float mine[12];
    for (int i = 0; i < 12; i++) mine[i] = bits_to_float(words[i / 2] >> i % 2 * 16 << 16);
    multiply_16x8x16(d, mine);
}
inline void load_matrices(u32 (&d)[4], const void* row) {
    uint4 v = shim::load16(row);
    const u32 mine[4] = {v.x, v.y, v.z, v.w};
    const u32* all = shim::exchange_all(mine);
    for (unsigned m = 0; m < 4; m++) d[m] = all[(m * 8 + shim::lane() / 4) * 4 + shim::lane() % 4];
}
inline void load_matrices_turned(u32 (&d)[4], const void* row) {
    uint4 v = shim::load16(row);
    const u32 mine[4] = {v.x, v.y, v.z, v.w};
    const u32* all = shim::exchange_all(mine);
    unsigned column = shim::lane() / 4;
    for (unsigned m = 0; m < 4; m++) {
        const u32* pair = all + (m * 8 + shim::lane() % 4 * 2) * 4 + column / 2;
        d[m] = (pair[0] >> column % 2 * 16 & 0xffff) | pair[4] >> column % 2 * 16 << 16;
    }
}
inline void copy16_later(void* shared, const void* from) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
        shim::fail("a misaligned copy");
    }
    shim::copy_later(shared, from, 16);
}
inline void end_copies() { shim::end_copies(); }
template <int LEFT>
void wait_for_copies() { shim::wait_for_copies(LEFT); }
inline void sync_block() { shim::block_barrier(); }
inline void sync_warp() { shim::warp_barrier(); }
inline void forget_memory() {}
template <class T>
T* afresh(T* pointer) { return pointer; }
inline int add_shared(int* at, int value) { int old = *at; *at += value; return old; }

inline uint4 load16(const void* at) { return shim::load16(at); }
inline void store16(void* at, uint4 value) {
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0) shim::fail("a misaligned store");
    memcpy(at, &value, 16);
}
inline uint2 load8(const void* at) {
    if (reinterpret_cast<uintptr_t>(at) % 8 != 0) shim::fail("a misaligned load");
    return *static_cast<const uint2*>(at);
}
inline u32 load4(const void* at) { return shim::load<u32>(at); }
inline u16 load2(const void* at) { return shim::load<u16>(at); }
