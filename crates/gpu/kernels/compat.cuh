// What kernels may use of their platform: CUDA, or the CPU shim that tests compile them with.
//
// Everything that differs is here and nowhere else, so that a kernel reads the same on both. Loads of
// several bytes go through `load*`, which asks for alignment: the shim checks it.
#pragma once

#ifdef TIDEMILL_SHIM
#include "shim.h"
#else

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Begins a kernel, which takes one struct, `args`.
//
// With DEPENDENT, for devices from 9.0 on, a kernel may be brought to the device while those before it run. Then it
// lets the next one come as well, and waits until those that it was launched behind have ended and what they
// wrote can be seen. Every thread does so before anything else, whatever it returns early for: so none
// gets past this before all earlier ones have ended.
#ifdef DEPENDENT
#define KERNEL_WITH(bounds, name, Args)                                                              \
    DEVICE void name##_body(const Args& args);                                                       \
    extern "C" __global__ void bounds name(const __grid_constant__ Args args) {                      \
        asm volatile("griddepcontrol.launch_dependents;" : : : "memory");                            \
        asm volatile("griddepcontrol.wait;" : : : "memory");                                         \
        name##_body(args);                                                                           \
    }                                                                                                \
    DEVICE void name##_body(const Args& args)
#else
#define KERNEL_WITH(bounds, name, Args) extern "C" __global__ void bounds name(Args args)
#endif
#define KERNEL(name, Args) KERNEL_WITH(, name, Args)
// The same with the most threads a block will have, and the blocks that should fit an SM.
#define KERNEL_OF(threads, blocks, name, Args) KERNEL_WITH(__launch_bounds__(threads, blocks), name, Args)
// The block's shared memory: one struct a kernel.
#define SHARED(type, name) __shared__ type name
#define DEVICE __device__ __forceinline__
#define TABLE __device__ const
#define INFINITY bits_to_float(0x7f800000u)

DEVICE float half_to_float(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

DEVICE u16 float_to_half(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

DEVICE int dot4(int a, int b, int sum) { return __dp4a(a, b, sum); }
DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) { return __byte_perm(low, high, selector); }
DEVICE float bits_to_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 float_to_bits(float value) { return __float_as_uint(value); }
DEVICE float shuffle(float value, int lane, int width) {
    return __shfl_sync(0xffffffffu, value, lane, width);
}
DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE int shuffle_xor(int value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE int shuffle(int value, int lane, int width) {
    return __shfl_sync(0xffffffffu, value, lane, width);
}
// Adds the products of signed bytes A [16, 16] and B [16, 8] to D, for a warp. Lane l has bytes
// 4 (l % 4).. of A's rows l / 4 and l / 4 + 8, the same of B's column l / 4, and of D the columns
// 2 (l % 4) and the next of row l / 4, then of row l / 4 + 8.
DEVICE void multiply_16x8x16(int (&d)[4], u32 low, u32 high, u32 b) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(low), "r"(high), "r"(b));
#else
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(d[0]), "+r"(d[1]) : "r"(low), "r"(b));
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(d[2]), "+r"(d[3]) : "r"(high), "r"(b));
#endif
}
// Adds the products of f16 A [16, 16] and B [16, 8] to D, for a warp. A word has two neighbours, the first one
// low. Lane l has of A's rows l / 4 and l / 4 + 8 the columns 2 (l % 4).., then of both the columns 8 further;
// of B's column l / 4 the rows 2 (l % 4).., then those 8 further; of D as above.
DEVICE void multiply_16x8x16(float (&d)[4], const u32 (&a)[4], u32 low, u32 high) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(low), "r"(high));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(low));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[2]), "r"(a[3]), "r"(high));
#endif
}
#if __CUDA_ARCH__ >= 800
// Whether tensor cores take bf16.
#define HAS_BF16_PRODUCTS
// The same of bf16.
DEVICE void multiply_bf16_16x8x16(float (&d)[4], const u32 (&a)[4], u32 low, u32 high) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(low), "r"(high));
}
// Two bf16 in a word, the first one low, rounded to nearest even.
DEVICE u32 pack_bf16(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
#endif
// Four matrices [8, 8] of 16 bits out of shared memory: lane l points at row l % 8 of matrix l / 8 and gets, of
// each, row l / 4 and there the columns 2 (l % 4)...
DEVICE void load_matrices(u32 (&d)[4], const void* row) {
    u32 at = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
}
// The same with rows and columns exchanged in what it gets.
DEVICE void load_matrices_turned(u32 (&d)[4], const void* row) {
    u32 at = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
}
// Copies 16 bytes into shared memory, which are there once this thread has waited for the copy; before 8.0 at
// once. Copies until `end_copies` are one group; `wait_for_copies` waits for all groups but the last LEFT.
DEVICE void copy16_later(void* shared, const void* from) {
#if __CUDA_ARCH__ >= 800
    u32 to = static_cast<u32>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(to), "l"(from) : "memory");
#else
    *static_cast<uint4*>(shared) = *static_cast<const uint4*>(from);
#endif
}
DEVICE void end_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}
template <int LEFT>
DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(LEFT) : "memory");
#endif
}
DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
// Keeps values of shared memory from waiting in registers for their next use.
DEVICE void forget_memory() { asm volatile("" ::: "memory"); }
// The same pointer, from which the compiler works out addresses anew instead of keeping them in registers.
template <class T>
DEVICE T* afresh(T* pointer) {
    asm volatile("" : "+l"(pointer));
    return pointer;
}
DEVICE int add_shared(int* at, int value) { return atomicAdd(at, value); }

DEVICE uint4 load16(const void* at) { return *static_cast<const uint4*>(at); }
DEVICE uint2 load8(const void* at) { return *static_cast<const uint2*>(at); }
DEVICE u32 load4(const void* at) { return *static_cast<const u32*>(at); }
DEVICE u16 load2(const void* at) { return *static_cast<const u16*>(at); }
DEVICE void store16(void* at, uint4 value) { *static_cast<uint4*>(at) = value; }

#endif

// Lanes of a warp.
#define WARP 32

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE float silu(float x) { return x * sigmoid(x); }
DEVICE float bf16_to_float(u16 bits) { return bits_to_float(static_cast<u32>(bits) << 16); }

// Two f16 in a word, the first one low.
DEVICE u32 pack_halves(float low, float high) {
    return float_to_half(low) | static_cast<u32>(float_to_half(high)) << 16;
}

// Rounds to nearest even; a NaN stays one.
DEVICE u16 float_to_bf16(float value) {
    u32 bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<u16>(bits >> 16 | 0x40);
    return static_cast<u16>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// The sum over a warp, in every lane. Its order is fixed.
DEVICE float warp_sum(float value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

DEVICE float warp_max(float value) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
    return value;
}

template <class T>
DEVICE T smaller(T a, T b) { return a < b ? a : b; }
template <class T>
DEVICE T larger(T a, T b) { return a > b ? a : b; }
