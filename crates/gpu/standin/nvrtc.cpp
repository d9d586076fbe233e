// A stand-in for the run-time compiler: what it compiles is not looked at, for the driver has all kernels.
#include <cstring>

#include "shim.h"

extern "C" {
int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return 0; }
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
    *program = new int(0);
    return 0;
}
int nvrtcDestroyProgram(void** program) { delete static_cast<int*>(*program); *program = nullptr; return 0; }
int nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
int nvrtcGetProgramLogSize(void*, size_t* bytes) { *bytes = 1; return 0; }
int nvrtcGetProgramLog(void*, char* log) { *log = 0; return 0; }
int nvrtcGetPTXSize(void*, size_t* bytes) { *bytes = 1; return 0; }
int nvrtcGetPTX(void*, char* text) { *text = 0; return 0; }
int nvrtcGetCUBINSize(void*, size_t* bytes) { *bytes = 8; return 0; }
int nvrtcGetCUBIN(void*, char* cubin) { memcpy(cubin, "standin", 8); return 0; }
}
