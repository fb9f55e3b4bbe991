/* Stands in for libcuda.so.1: exports what Esper calls of the driver, and records what it was given. */

#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 1024, PARAMETERS = 64, SHARED_SIZE = 8 };
enum { INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

typedef struct {
    uint64_t function, stream, context;
    uint32_t grid[3], block[3], shared, count;
    uint64_t values[PARAMETERS];
} Record;

Record records[RECORDS];
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
    Record *record = &records[launches % RECORDS];
    Record found = {(uintptr_t)function, (uintptr_t)stream, (uintptr_t)current, {gx, gy, gz}, {bx, by, bz}, shared, parameters, {0}};
    if (!current) return INVALID_CONTEXT;
    if (failure) return failure;
    if (extra) return 1;
    if (delay_us) usleep(delay_us);
    for (int i = 0; i < parameters; i++) memcpy(&found.values[i], values[i], 8);
    *record = found;
    launches++;
    return 0;
}
