// Fibres: stacks that a thread switches between. By hand on x86-64, where `swapcontext` would make a
// system call each time; with it elsewhere.
#pragma once
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct Fibre {
    static constexpr size_t STACK = 256 * 1024;
    char* stack = nullptr;
#if defined(__x86_64__)
    void* pointer = nullptr;
#else
    ucontext_t context;
#endif
    void* fake_stack = nullptr;
    const void* bottom = nullptr;  // of the stack, as the sanitizer is told it
    size_t size = 0;

    Fibre() = default;
    Fibre(Fibre&& other) noexcept { *this = static_cast<Fibre&&>(other); }
    Fibre& operator=(Fibre&& other) noexcept {
        stack = other.stack, other.stack = nullptr;
        return *this;
    }
    ~Fibre() { free(stack); }
};

#if defined(__x86_64__)
// Keeps what a function may not change, swaps stacks, and returns on the other one.
extern "C" void fibre_swap(void** from, void* to);
asm(R"(
.text
.globl fibre_swap
.type fibre_swap, @function
fibre_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#endif

static void (*fibre_entry)();

inline void fibre_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    fibre_entry();
    abort();
}

// Makes the fibre begin at `entry`, which never returns, when it is switched to.
inline void fibre_start(Fibre& fibre, void (*entry)()) {
    if (!fibre.stack) fibre.stack = static_cast<char*>(aligned_alloc(64, Fibre::STACK));
    if (!fibre.stack) throw std::bad_alloc();
    fibre_entry = entry;
    fibre.bottom = fibre.stack, fibre.size = Fibre::STACK;
#if defined(__SANITIZE_ADDRESS__)
    // Whatever ended here did so in functions that never return, whose frames are still marked.
    __asan_unpoison_memory_region(fibre.stack, Fibre::STACK);
#endif
#if defined(__x86_64__)
    void** top = reinterpret_cast<void**>(fibre.stack + Fibre::STACK);
    *--top = nullptr;  // where a return address would be, so that the stack is aligned as after a call
    *--top = reinterpret_cast<void*>(fibre_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fibre.pointer = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = Fibre::STACK;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, fibre_main, 0);
#endif
}

inline void fibre_switch(Fibre& from, Fibre& to) {
#if defined(__SANITIZE_ADDRESS__)
    if (!to.bottom) {  // the thread's own stack
        pthread_attr_t attributes;
        void* bottom;
        pthread_getattr_np(pthread_self(), &attributes);
        pthread_attr_getstack(&attributes, &bottom, &to.size);
        pthread_attr_destroy(&attributes);
        to.bottom = bottom;
    }
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
#if defined(__x86_64__)
    fibre_swap(&from.pointer, to.pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}
