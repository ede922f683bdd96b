/*
 * Counts the instructions of the generated breast_net_prepare, and of a plain loop that does the
 * same sums with the same plan and nothing else. The emulator runs one instruction a nanosecond.
 */
#include "breast_net_contract.h"
#include "cortex_m.h"

enum { HEIGHT = 480, WIDTH = 640, SIDE = 96 };
enum { NANOSECONDS_A_TICK = 40, TICKS = 0x1000000 };

static uint8_t pixels[HEIGHT * WIDTH];
static uint32_t memory[BREAST_NET_WORKSPACE_BYTES / 4];
static int8_t tensor[BREAST_NET_TENSOR_VALUES];
static int8_t plain_tensor[SIDE * SIDE];
static int8_t becomes[256];

/* SysTick: a counter that goes down, of 24 bits. */
static volatile uint32_t *const control = (volatile uint32_t *)0xe000e010;
static volatile uint32_t *const reload = (volatile uint32_t *)0xe000e014;
static volatile uint32_t *const current = (volatile uint32_t *)0xe000e018;

static uint32_t instructions_since(uint32_t start)
{
    return (start - *current) % TICKS * NANOSECONDS_A_TICK;
}

__attribute__((noinline)) static void plain_loop(
    const uint8_t *frame, const uint32_t *rows, const uint32_t *columns, uint32_t *row, int8_t *to)
{
    for (int y = 0; y < SIDE; ++y) {
        const uint8_t *column = frame + rows[0] * WIDTH;
        const uint32_t row_count = rows[1];
        const uint32_t *row_shares = rows + 2;
        for (int x = 0; x < WIDTH; ++x) {
            const uint8_t *pixel = column + x;
            uint32_t sum = 256;
            for (uint32_t k = 0; k < row_count; ++k) {
                sum += row_shares[k] * *pixel;
                pixel += WIDTH;
            }
            row[x] = sum >> 9;
        }
        const uint32_t *taps = columns;
        for (int x = 0; x < SIDE; ++x) {
            const uint32_t *old = row + taps[0];
            const uint32_t count = taps[1];
            uint32_t sum = 4194304;
            taps += 2;
            for (uint32_t k = 0; k < count; ++k) {
                sum += taps[k] * old[k];
            }
            *to++ = becomes[sum >> 23];
            taps += count;
        }
        rows = row_shares + row_count;
    }
}

/* What each gray level becomes, as frames of one level show it: the table itself is private. */
static int learn_table(const breast_net_frame *frame, breast_net_workspace *workspace)
{
    for (int level = 0; level < 256; ++level) {
        for (int i = 0; i < HEIGHT * WIDTH; ++i) {
            pixels[i] = (uint8_t)level;
        }
        if (breast_net_prepare(frame, workspace, tensor) != BREAST_NET_OK) {
            return 1;
        }
        becomes[level] = tensor[0];
    }
    return 0;
}

int main(void)
{
    const breast_net_frame frame = {pixels, sizeof pixels, HEIGHT, WIDTH, 1, 8, 1, NULL, 0};
    breast_net_workspace workspace = breast_net_workspace_of(memory, sizeof memory);
    *reload = TICKS - 1;
    *current = 0;
    *control = 5; /* on, and counting the processor's clock */
    uint32_t start = *current;
    if (breast_net_prepare(&frame, &workspace, tensor) != BREAST_NET_OK) {
        return 1;
    }
    const uint32_t first = instructions_since(start);
    if (learn_table(&frame, &workspace) != 0) {
        return 1;
    }
    uint32_t noise = 1;
    for (int i = 0; i < HEIGHT * WIDTH; ++i) {
        noise = noise * 1664525u + 1013904223u;
        pixels[i] = (uint8_t)(noise >> 24);
    }
    start = *current;
    if (breast_net_prepare(&frame, &workspace, tensor) != BREAST_NET_OK) {
        return 1;
    }
    const uint32_t steady = instructions_since(start);
    const uint32_t *columns = memory + workspace.columns_at;
    start = *current;
    plain_loop(pixels, memory, columns, memory + workspace.row_at, plain_tensor);
    const uint32_t plain = instructions_since(start);
    for (int i = 0; i < SIDE * SIDE; ++i) {
        if (tensor[i] != plain_tensor[i]) {
            return 2;
        }
    }
    const uint32_t counts[3] = {first, steady, plain};
    const int results = open_to_write("counts");
    return results < 0 || write_file(results, counts, sizeof counts) != 0;
}
