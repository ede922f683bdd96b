/*
 * The part of LiteRT's C API that this program uses.
 *
 * The packages of LiteRT carry libLiteRt.so and none of its headers, so what is needed is
 * declared here, as version 2.3.0 has it (litert/c in github.com/google-ai-edge/LiteRT). The
 * library's own version script exports these names as VERS_1.0. Another version may take
 * other arguments under the same names: check each of these before you change the library.
 */
#ifndef SCAN_LITERT_C_API_H
#define SCAN_LITERT_C_API_H

#include <stddef.h>
#include <stdint.h>

#define LITERT_API_VERSION "2.3.0"

#ifdef __cplusplus
extern "C" {
#endif

/* 0 is success; litert_common.h names the others. */
typedef int LiteRtStatus;
typedef size_t LiteRtParamIndex;

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;
typedef struct LiteRtProfilerT *LiteRtProfiler;

enum { kLiteRtStatusOk = 0 };
enum { kLiteRtHwAcceleratorCpu = 1 };
enum { kLiteRtElementTypeFloat32 = 1, kLiteRtElementTypeInt8 = 9 };
enum { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };
enum { LITERT_TENSOR_MAX_RANK = 8 };

typedef struct LiteRtLayout {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dimensions[LITERT_TENSOR_MAX_RANK];
    uint32_t strides[LITERT_TENSOR_MAX_RANK];
} LiteRtLayout;

typedef struct LiteRtRankedTensorType {
    int32_t element_type;
    LiteRtLayout layout;
} LiteRtRankedTensorType;

/* Bits of ProfiledEventData.event_type. */
enum {
    kLiteRtOperatorInvoke = 1 << 1,
    kLiteRtDelegateProfiledOperatorInvoke = 1 << 3 /* one of a delegate's own operators */
};

typedef struct LiteRtMemoryUsage {
    int64_t total_rss_kb;
    size_t total_allocated_bytes;
    size_t in_use_allocated_bytes;
} LiteRtMemoryUsage;

typedef struct ProfiledEventData {
    const char *tag; /* the profiler's, until it is reset */
    int event_type;
    uint64_t start_timestamp_us;
    uint64_t elapsed_time_us;
    LiteRtMemoryUsage begin_mem_usage;
    LiteRtMemoryUsage end_mem_usage;
    uint64_t event_metadata1;
    uint64_t event_metadata2;
    int event_source;
} ProfiledEventData;

LiteRtStatus LiteRtCreateEnvironment(int options, const void *list, LiteRtEnvironment *made);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

/* The model uses the buffer where it is. */
LiteRtStatus LiteRtCreateModelFromBuffer(
    LiteRtEnvironment environment, const void *buffer, size_t bytes, LiteRtModel *made);
void LiteRtDestroyModel(LiteRtModel model);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel model, LiteRtParamIndex *count);
LiteRtStatus LiteRtGetModelSignature(
    LiteRtModel model, LiteRtParamIndex index, LiteRtSignature *signature);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, LiteRtParamIndex *count);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, LiteRtParamIndex *count);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(
    LiteRtSignature signature, LiteRtParamIndex index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(
    LiteRtSignature signature, LiteRtParamIndex index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);

LiteRtStatus LiteRtCreateOptions(LiteRtOptions *made);
void LiteRtDestroyOptions(LiteRtOptions options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
/* `payload` is a C string in the manner of TOML; `destroy` frees it. */
LiteRtStatus LiteRtCreateOpaqueOptions(
    const char *identifier, void *payload, void (*destroy)(void *), LiteRtOpaqueOptions *made);
void LiteRtDestroyOpaqueOptions(LiteRtOpaqueOptions options);
/* Takes the opaque options over. */
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions options, LiteRtOpaqueOptions added);

LiteRtStatus LiteRtCreateCompiledModel(
    LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
    LiteRtCompiledModel *made);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel model);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel model, LiteRtParamIndex signature, LiteRtParamIndex index,
    LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel model, LiteRtParamIndex signature, LiteRtParamIndex index,
    LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtRunCompiledModel(
    LiteRtCompiledModel model, LiteRtParamIndex signature, size_t inputs,
    LiteRtTensorBuffer *input, size_t outputs, LiteRtTensorBuffer *output);

LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(
    LiteRtEnvironment environment, const LiteRtRankedTensorType *type,
    LiteRtTensorBufferRequirements requirements, LiteRtTensorBuffer *made);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtGetTensorBufferSize(LiteRtTensorBuffer buffer, size_t *bytes);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **memory, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);

/* The profiler is the model's. */
LiteRtStatus LiteRtCompiledModelGetProfiler(LiteRtCompiledModel model, LiteRtProfiler *profiler);
LiteRtStatus LiteRtStartProfiler(LiteRtProfiler profiler);
LiteRtStatus LiteRtStopProfiler(LiteRtProfiler profiler);
LiteRtStatus LiteRtResetProfiler(LiteRtProfiler profiler);
LiteRtStatus LiteRtGetNumProfilerEvents(LiteRtProfiler profiler, int *count);
LiteRtStatus LiteRtGetProfilerEvents(LiteRtProfiler profiler, int count, ProfiledEventData *events);

#ifdef __cplusplus
}
#endif

#endif
