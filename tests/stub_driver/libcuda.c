/* A CUDA driver that has no GPU: it notes every call, fails those that a test asks it to, and hands
 * launches to the test. Handles of libraries, kernels and functions are the code they were loaded
 * from. Signatures are those of cuda.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef CUresult (*Launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned block,
                           void* stream, void** arguments);

static char calls[1 << 16];
static char failing[64];
static CUresult failure;
static Launch launch;
static int capturing;
static void* contexts[64]; /* current ones, the last on top */
static int depth;

/* For tests. */
const char* stub_calls(void) {
  return calls;
}
void stub_reset(void) {
  calls[0] = failing[0] = 0;
  depth = capturing = 0;
}
void stub_fail(const char* call, CUresult result) {
  snprintf(failing, sizeof failing, "%s", call);
  failure = result;
}
void stub_on_launch(Launch callback) {
  launch = callback;
}
void stub_capture(int status) {
  capturing = status;
}
int stub_depth(void) {
  return depth;
}

static CUresult note(const char* call) {
  if (strlen(calls) + strlen(call) + 2 < sizeof calls) strcat(strcat(calls, call), "\n");
  return strcmp(call, failing) == 0 ? failure : 0;
}

#define CALL(name)                    \
  const CUresult noted = note(#name); \
  if (noted != 0) return noted

CUresult cuInit(unsigned flags) {
  (void)flags;
  CALL(cuInit);
  return 0;
}
CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
CUresult cuDeviceGet(int* device, int ordinal) {
  CALL(cuDeviceGet);
  *device = ordinal;
  return 0;
}
CUresult cuDevicePrimaryCtxRetain(void** context, int device) {
  CALL(cuDevicePrimaryCtxRetain);
  *context = (void*)(size_t)(0xc0de00 + device);
  return 0;
}
CUresult cuCtxGetCurrent(void** context) {
  CALL(cuCtxGetCurrent);
  *context = depth > 0 ? contexts[depth - 1] : NULL;
  return 0;
}
CUresult cuCtxPushCurrent_v2(void* context) {
  CALL(cuCtxPushCurrent);
  contexts[depth++] = context;
  return 0;
}
CUresult cuCtxPopCurrent_v2(void** context) {
  CALL(cuCtxPopCurrent);
  *context = contexts[--depth];
  return 0;
}
CUresult cuStreamIsCapturing(void* stream, int* status) {
  (void)stream;
  CALL(cuStreamIsCapturing);
  *status = capturing;
  return 0;
}
CUresult cuLibraryLoadData(void** library, const void* code, void* o1, void* v1, unsigned n1,
                           void* o2, void* v2, unsigned n2) {
  (void)o1, (void)v1, (void)n1, (void)o2, (void)v2, (void)n2;
  CALL(cuLibraryLoadData);
  *library = strdup(code);
  return 0;
}
CUresult cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  CALL(cuLibraryGetKernel);
  if (strstr(library, name) == NULL) return 500; /* CUDA_ERROR_NOT_FOUND */
  *kernel = library;
  return 0;
}
CUresult cuKernelGetFunction(void** function, void* kernel) {
  CALL(cuKernelGetFunction);
  if (depth == 0) return 201; /* CUDA_ERROR_INVALID_CONTEXT */
  *function = kernel;
  return 0;
}
CUresult cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        void* stream, void** arguments, void** extra) {
  CALL(cuLaunchKernel);
  if (grid_z != 1 || block_y != 1 || block_z != 1 || shared != 0 || extra != NULL) return 1;
  if (depth == 0) return 201;
  return launch(function, grid_x, grid_y, block_x, stream, arguments);
}
CUresult cuGetErrorName(CUresult result, const char** name) {
  *name = result == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_STUB";
  return 0;
}
CUresult cuGetErrorString(CUresult result, const char** text) {
  *text = result == 719 ? "unspecified launch failure" : "as the test asked";
  return 0;
}
/* NVRTC asks for one and looks at its size, its first word: this one has nothing else. */
CUresult cuGetExportTable(const void** table, const void* id) {
  static const size_t empty[] = {sizeof(size_t)};
  (void)id;
  *table = empty;
  return 0;
}
CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version,
                             unsigned long long flags, int* status) {
  (void)version, (void)flags;
  char name[128];
  void* self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  snprintf(name, sizeof name, "%s_v2", symbol);
  *function = dlsym(self, name);
  if (*function == NULL) *function = dlsym(self, symbol);
  if (status != NULL) *status = *function != NULL ? 0 : 1;
  return *function != NULL ? 0 : 500;
}
CUresult cuGetProcAddress(const char* symbol, void** function, int version,
                          unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
