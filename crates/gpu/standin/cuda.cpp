// A stand-in for the CUDA driver: the entry points that the host code uses, with kernels of the shim.
//
// Work that is asked for is put off until someone waits for it, as late as a real device might do it, so
// that memory which is used again too early shows as a wrong result. Memory begins as garbage.
//
// Streams that have a priority are beside the others: at times they run ahead, as far as what they wait for
// lets them, and at times they are as late as can be. So who relies on an order that no event makes is wrong
// now and then.
#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "shim_launch.h"


typedef int Result;
typedef u64 Address;

namespace {
enum : Result { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NOT_FOUND = 500, NOT_READY = 600 };

// A launch as a graph has it; the fields are those of `CUDA_KERNEL_NODE_PARAMS_v2`.
struct NodeParams {
    void* function;
    unsigned grid[3], block[3], shared_bytes;
    void **args, **extra;
    void *kernel, *context;
};
struct Node {
    const shim::Kernel* kernel;
    Index3 grid, block;
    std::vector<u64> args;
    bool is_behind = false;  // the node before it
    void run() const { shim::launch(*kernel, grid, block, args.data()); }
};
struct Graph {
    std::vector<std::unique_ptr<Node>> nodes;
    // Whether every node but the first comes behind the one before it.
    bool is_chain() const {
        return std::all_of(nodes.begin(), nodes.end(),
                           [&](auto& node) { return node->is_behind != (node == nodes.front()); });
    }
};
// A launch with attributes; the fields are those of `CUlaunchConfig` and `CUlaunchAttribute`.
struct LaunchAttribute {
    int id;
    char padding[4];
    int value;
    char unused[60];
};
struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    void* stream;
    LaunchAttribute* attributes;
    unsigned count;
};
// `CUgraphEdgeData`.
struct Edge { u8 from_port, to_port, type, reserved[5]; };
struct ReadyGraph {
    std::vector<Node> nodes;
    std::map<void*, size_t> places;  // of the nodes it was made of
};
struct Stream;
struct Mark { bool is_reached = true; Stream* stream = nullptr; };
typedef std::shared_ptr<Mark> Event;
struct Item {
    std::function<void()> work;
    Event after;  // of another stream, or null
};
struct Stream {
    std::deque<Item> items;
    bool is_beside;
    bool follows_kernel = false;  // and nothing else
};

std::vector<Stream*> streams;
// Copies to the device and events until one is refused; 0 for none.
unsigned refusal;
std::mt19937 coins;
std::map<void*, size_t> pinned;
size_t used_bytes;
std::map<void*, size_t> allocations;

size_t total_bytes() {
    const char* mib = getenv("TIDEMILL_STANDIN_MIB");
    return static_cast<size_t>(mib ? atoi(mib) : 256) << 20;
}

// Runs a stream until a mark is reached, or all of it, and what it waits for.
void run(Stream* stream, const Mark* until) {
    while (!stream->items.empty() && !(until && until->is_reached)) {
        Item item = std::move(stream->items.front());
        stream->items.pop_front();
        if (item.after && !item.after->is_reached) run(item.after->stream, item.after.get());
        if (item.work) item.work();
    }
}

// Runs a stream as far as it can without others.
void run_ahead(Stream* stream) {
    while (!stream->items.empty() && !(stream->items.front().after && !stream->items.front().after->is_reached)) {
        Item item = std::move(stream->items.front());
        stream->items.pop_front();
        if (item.work) item.work();
    }
}

void ask(void* to, std::function<void()> work, Event after = nullptr) {
    static_cast<Stream*>(to)->items.push_back({std::move(work), std::move(after)});
    static_cast<Stream*>(to)->follows_kernel = false;
    for (Stream* stream : streams) {
        if (stream->is_beside && coins() % 8 == 0) run_ahead(stream);
    }
}

void finish() {
    for (Stream* stream : streams) run(stream, nullptr);
}

bool is_refused() { return refusal > 0 && --refusal == 0; }

bool is_pinned(const void* at) {
    auto after = pinned.upper_bound(const_cast<void*>(at));
    if (after == pinned.begin()) return false;
    --after;
    return static_cast<const u8*>(at) < static_cast<u8*>(after->first) + after->second;
}

void* pointer(Address at) { return reinterpret_cast<void*>(at); }

bool read_node(const NodeParams& params, Node& node) {
    auto [gx, gy, gz] = params.grid;
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || params.shared_bytes != 0) return false;
    node.kernel = static_cast<const shim::Kernel*>(params.function);
    node.grid = Index3{gx, gy, gz};
    node.block = Index3{params.block[0], params.block[1], params.block[2]};
    node.args.assign((node.kernel->args_size + 7) / 8, 0);
    memcpy(node.args.data(), params.args[0], node.kernel->args_size);
    return true;
}
}  // namespace

extern "C" {
Result cuInit(unsigned) { return OK; }
Result cuDriverGetVersion(int* version) { *version = 13000; return OK; }
Result cuGetErrorString(Result, const char** text) { *text = "an error of the stand-in"; return OK; }
Result cuDeviceGetCount(int* count) { *count = 1; return OK; }
Result cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal == 0 ? OK : INVALID_VALUE; }
Result cuDeviceGetName(char* name, int len, int) { snprintf(name, len, "stand-in on the CPU"); return OK; }
Result cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = total_bytes(); return OK; }
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 4; return OK;   // multiprocessors
        case 75: *value = 9; return OK;   // compute capability
        case 76: *value = 0; return OK;
        default: *value = 0; return OK;
    }
}
Result cuDevicePrimaryCtxRetain(void** context, int) { *context = &streams; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
Result cuCtxSetCurrent(void*) { return OK; }
Result cuMemGetInfo_v2(size_t* available, size_t* total) {
    *total = total_bytes();
    *available = *total - used_bytes;
    return OK;
}

Result cuMemAlloc_v2(Address* address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    if (used_bytes + bytes > total_bytes()) return OUT_OF_MEMORY;
    // Of exactly this size where the sanitizer looks for overruns.
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) return OUT_OF_MEMORY;
    memset(memory, 0xff, bytes);
    allocations[memory] = bytes;
    used_bytes += bytes;
    *address = reinterpret_cast<Address>(memory);
    return OK;
}
Result cuMemFree_v2(Address address) {
    finish();
    auto found = allocations.find(pointer(address));
    if (found == allocations.end()) return INVALID_VALUE;
    used_bytes -= found->second;
    free(found->first);
    allocations.erase(found);
    return OK;
}
Result cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    if (posix_memalign(memory, 4096, bytes) != 0) return OUT_OF_MEMORY;
    pinned[*memory] = bytes;
    return OK;
}
Result cuMemFreeHost(void* memory) {
    finish();
    if (pinned.erase(memory) == 0) return INVALID_VALUE;
    free(memory);
    return OK;
}
Result cuMemHostRegister_v2(void* memory, size_t bytes, unsigned) { pinned[memory] = bytes; return OK; }
Result cuMemHostUnregister(void* memory) { return pinned.erase(memory) ? OK : INVALID_VALUE; }

// Host memory is read when the copy is done, pageable memory too: a driver may be as late.
Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    if (is_refused()) return INVALID_VALUE;
    ask(stream, [=] { memcpy(pointer(to), from, bytes); });
    return OK;
}
Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    ask(stream, [=] { memcpy(to, pointer(from), bytes); });
    if (!is_pinned(to)) run(static_cast<Stream*>(stream), nullptr);
    return OK;
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    ask(stream, [=] { memmove(pointer(to), pointer(from), bytes); });
    return OK;
}
Result cuMemsetD8Async(Address at, unsigned char value, size_t bytes, void* stream) {
    ask(stream, [=] { memset(pointer(at), value, bytes); });
    return OK;
}

Result cuStreamCreateWithPriority(void** stream, unsigned, int priority) {
    Stream* made = new Stream{{}, priority < 0};
    streams.push_back(made);
    *stream = made;
    return OK;
}
Result cuStreamCreate(void** stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
Result cuStreamDestroy_v2(void* stream) {
    Stream* gone = static_cast<Stream*>(stream);
    run(gone, nullptr);
    streams.erase(std::find(streams.begin(), streams.end(), gone));
    delete gone;
    return OK;
}
Result cuStreamSynchronize(void* stream) { run(static_cast<Stream*>(stream), nullptr); return OK; }
Result cuStreamWaitEvent(void* stream, void* event, unsigned) {
    ask(stream, nullptr, *static_cast<Event*>(event));
    return OK;
}
Result cuEventCreate(void** event, unsigned) { *event = new Event(new Mark()); return OK; }
Result cuEventDestroy_v2(void* event) { delete static_cast<Event*>(event); return OK; }
// Waits for what an event was before keep that.
Result cuEventRecord(void* event, void* stream) {
    if (is_refused()) return INVALID_VALUE;
    Event done(new Mark{false, static_cast<Stream*>(stream)});
    *static_cast<Event*>(event) = done;
    ask(stream, [=] { done->is_reached = true; });
    return OK;
}
Result cuEventSynchronize(void* event) {
    Event mark = *static_cast<Event*>(event);
    if (!mark->is_reached) run(mark->stream, mark.get());
    return OK;
}
// Who asks often enough sees it come.
Result cuEventQuery(void* event) {
    Event mark = *static_cast<Event*>(event);
    if (!mark->is_reached && mark->stream->is_beside) {
        unsigned coin = coins() % 16;
        if (coin == 0) run(mark->stream, mark.get());
        if (coin % 2 == 1) run_ahead(mark->stream);
    }
    return mark->is_reached ? OK : NOT_READY;
}
Result cuEventElapsedTime_v2(float* milliseconds, void*, void*) { *milliseconds = 0; return OK; }

// Every module has every kernel: of the image only its name is looked at.
Result cuModuleLoadData(void** module, const void* image) {
    if (strcmp(static_cast<const char*>(image), "standin") != 0) return INVALID_IMAGE;
    *module = &streams;
    return OK;
}
Result cuModuleUnload(void*) { return OK; }
Result cuModuleGetFunction(void** function, void*, const char* name) {
    const shim::Kernel* kernel = shim::find_kernel(name);
    *function = const_cast<shim::Kernel*>(kernel);
    return kernel ? OK : NOT_FOUND;
}
Result cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* size) {
    if (index != 0) return INVALID_VALUE;
    *offset = 0;
    *size = static_cast<shim::Kernel*>(function)->args_size;
    return OK;
}
Result cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared_bytes, void* stream, void** args, void**) {
    Node node;
    NodeParams params = {function, {gx, gy, gz}, {bx, by, bz}, shared_bytes, args, nullptr, nullptr, nullptr};
    if (!read_node(params, node)) return INVALID_VALUE;
    ask(stream, [node = std::move(node)] { node.run(); });
    static_cast<Stream*>(stream)->follows_kernel = true;
    return OK;
}
// Asked for where a kernel waits by itself for the one before it, which a real driver would not demand.
Result cuLaunchKernelEx(const LaunchConfig* config, void* function, void** args, void** extra) {
    const int WAITS_BY_ITSELF = 6;
    if (config->count != 1 || config->attributes->id != WAITS_BY_ITSELF || config->attributes->value != 1) return INVALID_VALUE;
    if (!static_cast<Stream*>(config->stream)->follows_kernel) return INVALID_VALUE;
    auto [gx, gy, gz] = config->grid;
    auto [bx, by, bz] = config->block;
    return cuLaunchKernel(function, gx, gy, gz, bx, by, bz, config->shared_bytes, config->stream, args, extra);
}

Result cuGraphCreate(void** graph, unsigned flags) {
    *graph = new Graph();
    return flags == 0 ? OK : INVALID_VALUE;
}
// Nodes are run in the order in which they were added, which must be that of their dependencies.
Result cuGraphAddKernelNode_v2(void** made, void* graph, void* const* before, size_t count, const NodeParams* params) {
    auto& nodes = static_cast<Graph*>(graph)->nodes;
    if (!static_cast<Graph*>(graph)->is_chain()) return INVALID_VALUE;
    if (count > (nodes.empty() ? 0 : 1) || (count == 1 && *before != nodes.back().get())) return INVALID_VALUE;
    auto node = std::make_unique<Node>();
    if (!read_node(*params, *node)) return INVALID_VALUE;
    node->is_behind = count == 1;
    *made = node.get();
    nodes.push_back(std::move(node));
    return OK;
}
// For kernels that wait by themselves for the one before them.
Result cuGraphAddDependencies_v2(void* graph, void* const* from, void* const* to, const Edge* edge, size_t count) {
    auto& nodes = static_cast<Graph*>(graph)->nodes;
    if (count != 1 || nodes.size() < 2 || nodes.back()->is_behind) return INVALID_VALUE;
    if (*from != nodes[nodes.size() - 2].get() || *to != nodes.back().get()) return INVALID_VALUE;
    const Edge expected = {1, 0, 1, {}};
    if (memcmp(edge, &expected, sizeof(Edge)) != 0) return INVALID_VALUE;
    nodes.back()->is_behind = true;
    return OK;
}
Result cuGraphInstantiateWithFlags(void** ready, void* graph, u64) {
    if (!static_cast<Graph*>(graph)->is_chain()) return INVALID_VALUE;
    auto made = std::make_unique<ReadyGraph>();
    for (auto& node : static_cast<Graph*>(graph)->nodes) {
        made->places[node.get()] = made->nodes.size();
        made->nodes.push_back(*node);
    }
    *ready = made.release();
    return OK;
}
// What was asked for before keeps what it had.
Result cuGraphExecKernelNodeSetParams_v2(void* ready, void* node, const NodeParams* params) {
    ReadyGraph* graph = static_cast<ReadyGraph*>(ready);
    auto place = graph->places.find(node);
    if (place == graph->places.end()) return INVALID_VALUE;
    Node& changed = graph->nodes[place->second];
    if (params->function != changed.kernel) return INVALID_VALUE;
    return read_node(*params, changed) ? OK : INVALID_VALUE;
}
Result cuGraphLaunch(void* ready, void* stream) {
    ask(stream, [nodes = static_cast<ReadyGraph*>(ready)->nodes] { for (auto& node : nodes) node.run(); });
    return OK;
}
Result cuGraphExecDestroy(void* ready) { delete static_cast<ReadyGraph*>(ready); return OK; }
Result cuGraphDestroy(void* graph) { delete static_cast<Graph*>(graph); return OK; }

// Of the stand-in alone: another order of threads; the copy to the device or event that is refused, from 1.
void tidemill_standin_seed(unsigned number) { shim::seed(number), coins.seed(number); }
void tidemill_standin_refuse(unsigned number) { refusal = number; }
}
