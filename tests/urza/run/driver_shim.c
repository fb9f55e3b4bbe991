/* Stands in for libcuda.so.1: exports what Esper calls of the driver, and records what it was given. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 4096, PARAMETERS = 64, SHARED_SIZE = 8, FUNCTIONS = 256, GRAPHS = 64 };
enum { INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_CAPTURED = 901 };

typedef struct {
    uint64_t function, stream, context;
    uint32_t grid[3], block[3], shared, count;
    uint64_t values[PARAMETERS];
} Record;

Record records[RECORDS], nodes[RECORDS];
int32_t node_count, graph_starts[GRAPHS], graph_ends[GRAPHS], graphs, destroyed, graph_launches, streams;
int32_t graph_failure, capture_mode, synchronized;
static void *captured_stream;
static int32_t parameters_of[FUNCTIONS];
int32_t launches, loads, parameters, failure, delay_us, shared_limit, attribute, attribute_value;
char symbol[256];
static _Thread_local void *current;

int cuDeviceGet(int *device, int number) {
    *device = number;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(uintptr_t)(0xc0 + device);
    return 0;
}

int cuCtxGetCurrent(void **context) {
    *context = current;
    return 0;
}

int cuCtxSetCurrent(void *context) {
    current = context;
    return 0;
}

int cuModuleLoadData(void **module, const char *image) {
    if (!current) return INVALID_CONTEXT;
    if (memcmp(image, "\x7f" "ELF", 4)) return INVALID_IMAGE;
    *module = (void *)(uintptr_t)(0x1000 + ++loads);
    return 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (!strcmp(name, "absent")) return NOT_FOUND;
    strncpy(symbol, name, sizeof symbol - 1);
    /* A symbol that ends with `$N` tells how many parameters the function takes. */
    const char *count = strchr(name, '$');
    parameters_of[((uintptr_t)module - 0x1000) % FUNCTIONS] = count ? atoi(count + 1) : -1;
    *function = (char *)module + 0x7f0000000000;
    return 0;
}

int cuFuncSetAttribute(void *function, int which, int value) {
    attribute = which;
    attribute_value = value;
    return which == SHARED_SIZE && value > shared_limit ? 1 : 0;
}

int cuGetErrorString(int error, const char **text) {
    if (error != 1 && error != INVALID_IMAGE) return 1;
    *text = error == 1 ? "invalid argument" : "device kernel image is invalid";
    return 0;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **values, void **extra) {
    int own = parameters_of[((uintptr_t)function - 0x7f0000001000) % FUNCTIONS];
    int count = own >= 0 ? own : parameters;
    Record found = {(uintptr_t)function, (uintptr_t)stream, (uintptr_t)current, {gx, gy, gz}, {bx, by, bz}, shared, count, {0}};
    if (!current) return INVALID_CONTEXT;
    if (failure) return failure;
    if (extra) return 1;
    if (delay_us) usleep(delay_us);
    for (int i = 0; i < count; i++) memcpy(&found.values[i], values[i], 8);
    if (captured_stream && stream == captured_stream)
        nodes[node_count++ % RECORDS] = found;
    else
        records[launches++ % RECORDS] = found;
    return 0;
}

int cuCtxSynchronize(void) {
    synchronized++;
    return current ? 0 : INVALID_CONTEXT;
}

int cuStreamCreate(void **stream, unsigned flags) {
    if (!current) return INVALID_CONTEXT;
    if (flags != 1) return 1;
    *stream = (void *)(uintptr_t)(0x5000 + ++streams);
    return 0;
}

int cuStreamIsCapturing(void *stream, int *status) {
    *status = captured_stream && stream == captured_stream;
    return 0;
}

int cuStreamBeginCapture_v2(void *stream, int mode) {
    if (!current) return INVALID_CONTEXT;
    if (captured_stream || !stream) return 1;
    capture_mode = mode;
    captured_stream = stream;
    graph_starts[graphs % GRAPHS] = node_count;
    return 0;
}

int cuStreamEndCapture(void *stream, void **graph) {
    if (stream != captured_stream) return NOT_CAPTURED;
    captured_stream = 0;
    graph_ends[graphs % GRAPHS] = node_count;
    *graph = (void *)(uintptr_t)(0x6000 + graphs++);
    return 0;
}

int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    if (graph_failure || flags) return 1;
    *executable = (char *)graph + 0x1000;
    return 0;
}

int cuGraphDestroy(void *graph) {
    return graph ? 0 : 1;
}

int cuGraphExecDestroy(void *executable) {
    int number = (int)((uintptr_t)executable - 0x7000);
    if (graph_ends[number % GRAPHS] < 0) return 1;
    graph_ends[number % GRAPHS] = -1;
    destroyed++;
    return 0;
}

/* The launches of a graph, recorded as if each had been made on `stream`. */
int cuGraphLaunch(void *executable, void *stream) {
    int number = (int)((uintptr_t)executable - 0x7000);
    if (!current) return INVALID_CONTEXT;
    if (failure) return failure;
    if (graph_ends[number % GRAPHS] < 0) return 1;
    for (int node = graph_starts[number % GRAPHS]; node < graph_ends[number % GRAPHS]; node++) {
        records[launches % RECORDS] = nodes[node % RECORDS];
        records[launches++ % RECORDS].stream = (uintptr_t)stream;
    }
    graph_launches++;
    return 0;
}
