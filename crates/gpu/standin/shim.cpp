// Runs kernels: fibres for the threads of a block, see shim.h.
#include "shim.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fibre.h"
#include "shim_launch.h"

namespace shim {
Index3 thread_index, block_index, block_size, grid_size;

namespace {
enum class State { READY, AT_BLOCK, AT_WARP, DONE };

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
};

struct Thread {
    Fibre fibre;
    Index3 index;
    State state;
    bool has_waited;         // for earlier kernels
    std::deque<std::vector<Copy>> copies;  // in groups, the last of which is open
};

struct Warp {
    u32 words[2][32 * MOST_WORDS];
    unsigned turn = 0;       // which of `words` is written
    unsigned waiting = 0;
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

std::mt19937 random_numbers;
std::vector<Thread> threads(1024);
Warp warps[32];
Fibre scheduler;
unsigned current, count, alive, waiting;
Call running_call;
const void* running_args;
u8* shared_bytes;
size_t shared_size;
std::vector<unsigned> ready;

void switch_to_scheduler(State state) {
    threads[current].state = state;
    fibre_switch(threads[current].fibre, scheduler);
}

void wake(State state, unsigned first, unsigned end) {
    for (unsigned t = first; t < end; t++) {
        if (threads[t].state == state) {
            threads[t].state = State::READY;
            ready.push_back(t);
        }
    }
}

void thread_main() {
    running_call(running_args);
    if (!threads[current].has_waited) fail("a thread that never waited for earlier kernels");
    alive--;
    switch_to_scheduler(State::DONE);
}

void run_block() {
    count = alive = block_size.x, waiting = 0;
    for (Warp& warp : warps) warp.turn = warp.waiting = 0;
    ready.clear();
    for (unsigned t = 0; t < count; t++) {
        threads[t].index = {t, 0, 0};
        threads[t].state = State::READY;
        threads[t].has_waited = false;
        threads[t].copies.clear();
        fibre_start(threads[t].fibre, thread_main);
        ready.push_back(t);
    }
    while (alive > 0) {
        if (ready.empty()) fail("threads wait for each other: a barrier that not all of them reach");
        std::swap(ready[random_numbers() % ready.size()], ready.back());
        current = ready.back();
        ready.pop_back();
        thread_index = threads[current].index;
        fibre_switch(scheduler, threads[current].fibre);
    }
    free(shared_bytes);
    shared_bytes = nullptr;
}
}  // namespace

Registration::Registration(const char* name, Kernel kernel) { kernels()[name] = kernel; }

// Nothing that threads do together may come before they wait for earlier kernels.
void check_begun() {
    if (!threads[current].has_waited) fail("a thread works before it has waited for earlier kernels");
}

// A barrier waits for all threads, also for those that have returned: kernels may not rely on these.
void block_barrier() {
    check_begun();
    if (++waiting < count) {
        switch_to_scheduler(State::AT_BLOCK);
        return;
    }
    waiting = 0;
    wake(State::AT_BLOCK, 0, count);
}

void warp_barrier() {
    check_begun();
    unsigned index = current / 32;
    Warp& warp = warps[index];
    if (++warp.waiting < 32) {
        switch_to_scheduler(State::AT_WARP);
        return;
    }
    warp.waiting = 0;
    warp.turn ^= 1;
    wake(State::AT_WARP, index * 32, index * 32 + 32);
}

u32* warp_words() {
    Warp& warp = warps[current / 32];
    return warp.words[warp.turn];
}
unsigned lane() { return current % 32; }

void wait_for_earlier() { threads[current].has_waited = true; }

void copy_later(void* to, const void* from, size_t bytes) {
    auto& copies = threads[current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.back().push_back({to, from, bytes});
}

void end_copies() {
    auto& copies = threads[current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.emplace_back();
}

void wait_for_copies(size_t groups_left) {
    auto& copies = threads[current].copies;
    for (; copies.size() > groups_left + 1; copies.pop_front()) {
        for (const Copy& copy : copies.front()) memcpy(copy.to, copy.from, copy.bytes);
    }
}

void* shared_memory(size_t bytes) {
    check_begun();
    if (!shared_bytes) {
        shared_bytes = static_cast<u8*>(aligned_alloc(64, (bytes + 63) / 64 * 64));
        // Values that are no numbers, and whose integers are large.
        memset(shared_bytes, 0xff, bytes);
        shared_size = bytes;
    }
    if (shared_size != bytes) fail("two kinds of shared memory in one kernel");
    return shared_bytes;
}

const Kernel* find_kernel(const char* name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

void seed(unsigned number) { random_numbers.seed(number); }

void launch(const Kernel& kernel, Index3 grid, Index3 block, const void* args) {
    if (block.y != 1 || block.z != 1 || block.x == 0 || block.x > 1024 || block.x % 32 != 0) {
        fail("a block that is no row of whole warps");
    }
    running_call = kernel.call;
    running_args = args;
    grid_size = grid, block_size = block;
    size_t blocks = static_cast<size_t>(grid.x) * grid.y * grid.z;
    // A random start and step visit all blocks where the step has no factor in common with their number.
    size_t at = random_numbers() % blocks, step = 1 + random_numbers() % blocks;
    while (std::__gcd(step, blocks) != 1) step++;
    for (size_t done = 0; done < blocks; done++, at = (at + step) % blocks) {
        block_index.x = static_cast<unsigned>(at % grid.x);
        block_index.y = static_cast<unsigned>(at / grid.x % grid.y);
        block_index.z = static_cast<unsigned>(at / grid.x / grid.y);
        run_block();
    }
}
}  // namespace shim
