/* A libnvidia-ml.so.1 without a GPU: NVML's own entry points and struct layouts, told what to say by
 * the text file that FAKE_NVML names, which is read anew at each call. Its lines are "key value":
 *
 *     driver 550.54.15        init 9            what nvmlInit returns, where not success
 *     gpus 2                  0.name NVIDIA L4  0.util 83      0.slices 2
 *     0.uuid GPU-aa           0.total 24e9      0.used 3e9     0:1.uuid MIG-bb
 *     0.power 61000           0.clock 1740      0.temperature 71
 *     0.reasons 36            0.processes 4711 4712
 *
 * "!15" as a value makes that call return error 15. A key that is missing is not supported (3).
 * Variants are drivers of other years: -DDRIVER_YEAR=2021 has older names only, 2019 lacks some.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DRIVER_YEAR
#define DRIVER_YEAR 2025
#endif

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE };
typedef int nvmlReturn_t;
typedef struct { int gpu, slice; } *nvmlDevice_t; /* slice -1: the whole GPU */
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned version; int sensor, temperature; } nvmlTemperature_t;
typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

static int started;

static int look_up(const char *key, char *value, size_t size) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    int found = 0;
    if (file == NULL) return 0;
    while (!found && fgets(line, sizeof line, file)) {
        char *space = strchr(line, ' ');
        if (space == NULL) continue;
        *space = 0;
        if (strcmp(line, key) != 0) continue;
        space[1 + strcspn(space + 1, "\n")] = 0;
        snprintf(value, size, "%s", space + 1);
        found = 1;
    }
    fclose(file);
    return found;
}

static nvmlReturn_t text_of(nvmlDevice_t device, const char *field, char *value, size_t size) {
    char key[64], place[32];
    if (!started) return UNINITIALIZED;
    if (device == NULL) return INVALID_ARGUMENT;
    if (device->slice < 0) snprintf(place, sizeof place, "%d", device->gpu);
    else snprintf(place, sizeof place, "%d:%d", device->gpu, device->slice);
    snprintf(key, sizeof key, "%s.%s", place, field);
    if (!look_up(key, value, size)) return NOT_SUPPORTED;
    return value[0] == '!' ? atoi(value + 1) : SUCCESS;
}

static nvmlReturn_t number_of(nvmlDevice_t device, const char *field, double *number) {
    char value[256];
    nvmlReturn_t result = text_of(device, field, value, sizeof value);
    if (result == SUCCESS) *number = atof(value);
    return result;
}

static nvmlReturn_t unsigned_of(nvmlDevice_t device, const char *field, unsigned *number) {
    double value;
    nvmlReturn_t result = number_of(device, field, &value);
    if (result == SUCCESS) *number = (unsigned)value;
    return result;
}

/* As the real one: what belongs to the card is an invalid argument where a slice is asked for it. */
static nvmlReturn_t of_card(nvmlDevice_t device, const char *field, unsigned *number) {
    return device && device->slice >= 0 ? INVALID_ARGUMENT : unsigned_of(device, field, number);
}

static nvmlDevice_t handle(int gpu, int slice) {
    static struct { int gpu, slice; } all[16][17];
    all[gpu][slice + 1].gpu = gpu;
    all[gpu][slice + 1].slice = slice;
    return (nvmlDevice_t)&all[gpu][slice + 1];
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    char value[32];
    (void)flags;
    if (look_up("init", value, sizeof value) && atoi(value) != SUCCESS) return atoi(value);
    started++;
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) { return started ? (started--, SUCCESS) : UNINITIALIZED; }

const char *nvmlErrorString(nvmlReturn_t result) { (void)result; return "an error of NVML"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    if (!started) return UNINITIALIZED;
    return look_up("driver", version, length) ? SUCCESS : NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    char value[32];
    if (!started) return UNINITIALIZED;
    *count = look_up("gpus", value, sizeof value) ? atoi(value) : 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    char uuid[96];
    *device = handle(index, -1);
    return text_of(*device, "uuid", uuid, sizeof uuid);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    return text_of(device, "name", name, length);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    return text_of(device, "uuid", uuid, length);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    nvmlReturn_t result = unsigned_of(device, "slices", current);
    if (result == SUCCESS) *current = *pending = 1;
    return result;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    (void)device;
    *count = 7;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(
    nvmlDevice_t device, unsigned index, nvmlDevice_t *slice) {
    unsigned slices = 0;
    unsigned_of(device, "slices", &slices);
    *slice = handle(device->gpu, index);
    return index < slices ? SUCCESS : NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    double total, used;
    nvmlReturn_t result = number_of(device, "total", &total);
    if (result == SUCCESS) result = number_of(device, "used", &used);
    if (result != SUCCESS) return result;
    memory->total = total;
    memory->used = used;
    memory->free = total - used;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    unsigned slices;
    if (device->slice >= 0 || unsigned_of(device, "slices", &slices) == SUCCESS) return NOT_SUPPORTED;
    rates->memory = 0;
    return unsigned_of(device, "util", &rates->gpu);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
    return of_card(device, "power", milliwatts);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned *megahertz) {
    return type == 1 ? of_card(device, "clock", megahertz) : INVALID_ARGUMENT; /* 1: the SMs' */
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
    return sensor == 0 ? of_card(device, "temperature", celsius) : INVALID_ARGUMENT;
}

#if DRIVER_YEAR >= 2021
static nvmlReturn_t processes(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos) {
    char value[256];
    unsigned room = *count;
    nvmlReturn_t result = text_of(device, "processes", value, sizeof value);
    *count = 0;
    if (result != SUCCESS) return result == NOT_SUPPORTED ? SUCCESS : result;
    for (char *word = strtok(value, " "); word; word = strtok(NULL, " ")) {
        if (infos && *count < room) {
            infos[*count] = (nvmlProcessInfo_t){atoi(word), 1 << 20, -1, -1};
        }
        ++*count;
    }
    return *count <= room ? SUCCESS : INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *bits) {
    unsigned found = 0;
    nvmlReturn_t result = of_card(device, "reasons", &found);
    *bits = found;
    return result;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos) {
    return processes(device, count, infos);
}
#endif

#if DRIVER_YEAR >= 2025
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *bits) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, bits);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos) {
    return processes(device, count, infos);
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *reading) {
    unsigned celsius = 0;
    nvmlReturn_t result;
    if (reading->version != (sizeof *reading | 1 << 24)) return 25; /* version mismatch */
    result = nvmlDeviceGetTemperature(device, reading->sensor, &celsius);
    reading->temperature = celsius;
    return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlMemory_t old;
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo(device, &old);
    if (memory->version != (sizeof *memory | 2 << 24)) return 25;
    memory->total = old.total;
    memory->reserved = 0;
    memory->free = old.free;
    memory->used = old.used;
    return result;
}
#endif
