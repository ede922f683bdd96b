/*
 * Runs a file of cases (tests/languages/protocol.py) through generated C, on a computer or on a
 * microcontroller. runner.c is the same for both; what differs is in host.c and cortex_m.c.
 */
#ifndef RUNNER_H
#define RUNNER_H

#include <stddef.h>
#include <stdint.h>

enum { KIND_PREPARE = 0, KIND_ANSWER = 1, KIND_VERSION = 2 };

typedef struct test_case {
    uint32_t contract;
    uint32_t kind;
    uint32_t height;
    uint32_t width;
    uint32_t channels;
    uint32_t bits;
    uint32_t orientation;
    uint32_t palette_entries;
    uint32_t payload_bytes;
    uint32_t palette_bytes;
    uint32_t version;
    uint32_t unused;
    const void *payload;
    const void *palette;
    uint32_t turn; /* counts how often the contract changed: what is kept lasts for one turn */
} test_case;

typedef struct test_result {
    const void *payload;
    uint32_t payload_bytes;
} test_result;

/* What the generated code of one contract makes of a case: returns its status. */
typedef uint32_t (*test_contract)(const test_case *now, test_result *result);

/* In contracts.c, which the test writes. */
extern const test_contract test_contracts[];

/* Run all cases; returns 0, or 1 where the files cannot be read or written. */
int run_cases(void);

/* The rest is what a machine gives. Memory that lasts for one case, or while the contract stays. */
void *take(size_t bytes);
void *keep(size_t bytes);
void give_back_taken(void);
void give_back_kept(void);

/* Both return 0 where all bytes came or went. */
int read_bytes(void *to, size_t bytes);
int write_bytes(const void *from, size_t bytes);

#endif
