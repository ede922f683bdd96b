#include "runner.h"

enum { HEAD_BYTES = 48 };
static const uint32_t END = 0xffffffffu;
static const uint8_t padding[8] = {0, 0, 0, 0, 0, 0, 0, 0};

static size_t gap(size_t bytes)
{
    return (8 - bytes % 8) % 8;
}

/* In a place of just this size, so that a read beyond it is noticed. */
static const void *read_block(uint32_t bytes)
{
    uint8_t rest[8];
    void *block = take(bytes);
    if (read_bytes(block, bytes) != 0 || read_bytes(rest, gap(bytes)) != 0) {
        return NULL;
    }
    return block;
}

static int write_result(uint32_t status, const test_result *result)
{
    const uint32_t head[2] = {status, result->payload_bytes};
    return write_bytes(head, sizeof head) != 0 || write_bytes(result->payload, result->payload_bytes) != 0
        || write_bytes(padding, gap(result->payload_bytes)) != 0;
}

int run_cases(void)
{
    uint32_t last = END;
    uint32_t turn = 0;
    for (;;) {
        test_case now;
        if (read_bytes(&now, HEAD_BYTES) != 0) {
            return 1;
        }
        if (now.contract == END) {
            return 0;
        }
        now.payload = read_block(now.payload_bytes);
        now.palette = read_block(now.palette_bytes);
        if (now.payload == NULL || now.palette == NULL) {
            return 1;
        }
        if (now.contract != last) {
            give_back_kept();
            ++turn;
        }
        last = now.contract;
        now.turn = turn;
        test_result result = {padding, 0};
        const uint32_t status = test_contracts[now.contract](&now, &result);
        if (status != 0) {
            result.payload_bytes = 0;
        }
        if (write_result(status, &result) != 0) {
            return 1;
        }
        give_back_taken();
    }
}
