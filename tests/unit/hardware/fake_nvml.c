/* A stand-in for NVIDIA's management library, as libnvidia-ml.so.1. FAKE_NVML chooses what it does:
   card, shared (memory not supported, as on Jetson), unloaded (driver not loaded), hang, crash. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };
typedef struct { unsigned long long total, free, used; } memory_t;

static int mode(const char *name) {
    const char *value = getenv("FAKE_NVML");
    return value && strcmp(value, name) == 0;
}
int nvmlInit_v2(void) {
    if (mode("hang")) sleep(60);
    if (mode("crash")) abort();
    return mode("unloaded") ? DRIVER_NOT_LOADED : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)0x7f0000000008; /* wider than 32 bits: a handle passed as int would break */
    return index == 0 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetName(void *handle, char *buffer, unsigned size) {
    if (handle != (void *)0x7f0000000008) return NOT_SUPPORTED;
    strncpy(buffer, mode("shared") ? "Orin (nvgpu)" : "NVIDIA GeForce RTX 4070", size);
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    (void)handle; *major = 8; *minor = mode("shared") ? 7 : 9; return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    (void)handle;
    if (mode("shared")) return NOT_SUPPORTED;
    memory->total = 12282ULL << 20; memory->free = 11000ULL << 20; memory->used = memory->total - memory->free;
    return OK;
}
int nvmlSystemGetDriverVersion(char *buffer, unsigned size) { strncpy(buffer, "550.54.14", size); return OK; }
#ifndef OLD /* questions that older drivers do not know */
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return OK; }
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *degrees) {
    (void)handle;
    if (sensor != 0 || mode("shared")) return NOT_SUPPORTED;
    *degrees = 41;
    return OK;
}
#endif
