/*
 * Run the known network once, and print its output, one number a line.
 *
 *     probe known.tflite
 *
 * The network takes one int8 tensor and gives another. What it is fed is made here, the same
 * on every machine; what it must answer, `packager/device_setup/trial.py` knows.
 */
#include "litert_c_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Tags of the markers that `packager/devices/plugin/count.c` looks for. */
enum { MARKER = 0x4D41524B, BEFORE = 20, AFTER = 21 };

enum { MAX_MODEL_BYTES = 1 << 16, REFUSED = 2 };

static unsigned char model_bytes[MAX_MODEL_BYTES];

static void check(LiteRtStatus status, const char *what) {
    if (status != kLiteRtStatusOk) {
        fprintf(stderr, "%s answers %d\n", what, status);
        exit(REFUSED);
    }
}

#define CHECK(call) check(call, #call)

static size_t read_model(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(model_bytes, 1, sizeof model_bytes, file) : 0;
    if (file) {
        fclose(file);
    }
    return size;
}

/* Numerical Recipes' generator; tests/known_network.py has it as well. */
static void make_input(signed char *values, size_t count) {
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (signed char)((int)(state >> 24) - 128);
    }
}

static LiteRtTensorBuffer buffer_for(
    LiteRtEnvironment environment, LiteRtTensor tensor, LiteRtTensorBufferRequirements needs) {
    LiteRtRankedTensorType type;
    LiteRtTensorBuffer buffer;
    CHECK(LiteRtGetRankedTensorType(tensor, &type));
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs, &buffer));
    return buffer;
}

int main(int count, char **arguments) {
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtOptions options;
    LiteRtCompiledModel compiled;
    LiteRtSignature signature;
    LiteRtTensor tensor;
    LiteRtTensorBufferRequirements needs;
    size_t bytes;
    void *memory;

    size_t size = count == 2 ? read_model(arguments[1]) : 0;
    CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
    CHECK(LiteRtCreateModelFromBuffer(environment, model_bytes, size, &model));
    CHECK(LiteRtCreateOptions(&options));
    CHECK(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
    CHECK(LiteRtCreateCompiledModel(environment, model, options, &compiled));
    CHECK(LiteRtGetModelSignature(model, 0, &signature));

    CHECK(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor));
    CHECK(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &needs));
    LiteRtTensorBuffer input = buffer_for(environment, tensor, needs);
    CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor));
    CHECK(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &needs));
    LiteRtTensorBuffer output = buffer_for(environment, tensor, needs);

    CHECK(LiteRtGetTensorBufferSize(input, &bytes));
    CHECK(LiteRtLockTensorBuffer(input, &memory, kLiteRtTensorBufferLockModeWrite));
    make_input(memory, bytes);
    CHECK(LiteRtUnlockTensorBuffer(input));
    getpriority(MARKER, BEFORE);
    LiteRtStatus status = LiteRtRunCompiledModel(compiled, 0, 1, &input, 1, &output);
    getpriority(MARKER, AFTER);
    check(status, "LiteRtRunCompiledModel");
    CHECK(LiteRtGetTensorBufferSize(output, &bytes));
    CHECK(LiteRtLockTensorBuffer(output, &memory, kLiteRtTensorBufferLockModeRead));
    for (size_t i = 0; i < bytes; i++) {
        printf("%d\n", ((signed char *)memory)[i]);
    }
    return 0;
}
