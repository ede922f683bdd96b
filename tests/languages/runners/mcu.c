/* A microcontroller: reads the file "cases", writes the file "results". */
#include "cortex_m.h"
#include "runner.h"

enum { POOL_BYTES = 7 << 19 };

/* Kept memory grows from the beginning, taken memory from the end. */
static uint64_t pool[POOL_BYTES / 8];
static size_t kept;
static size_t taken;
static int cases;
static int results;

static size_t words(size_t bytes)
{
    return (bytes + 7) / 8;
}

static void require_room(void)
{
    if (kept + taken > POOL_BYTES / 8) {
        leave(3);
    }
}

void *take(size_t bytes)
{
    taken += words(bytes);
    require_room();
    return &pool[POOL_BYTES / 8 - taken];
}

void *keep(size_t bytes)
{
    uint64_t *const place = &pool[kept];
    kept += words(bytes);
    require_room();
    return place;
}

void give_back_taken(void)
{
    taken = 0;
}

void give_back_kept(void)
{
    kept = 0;
}

int read_bytes(void *to, size_t bytes)
{
    return read_file(cases, to, bytes) != 0;
}

int write_bytes(const void *from, size_t bytes)
{
    return write_file(results, from, bytes) != 0;
}

int main(void)
{
    cases = open_to_read("cases");
    results = open_to_write("results");
    return cases < 0 || results < 0 ? 2 : run_cases();
}
