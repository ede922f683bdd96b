/* A computer: program CASES RESULTS. Each piece of memory is its own, for the address sanitizer. */
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };
typedef struct {
    void *blocks[MOST];
    size_t count;
} pieces;

static pieces taken;
static pieces kept;
static FILE *cases;
static FILE *results;

static void *add(pieces *to, size_t bytes)
{
    void *block = malloc(bytes > 0 ? bytes : 1);
    if (block == NULL || to->count == MOST) {
        abort();
    }
    memset(block, 0xa5, bytes);
    to->blocks[to->count++] = block;
    return block;
}

static void give_back(pieces *from)
{
    while (from->count > 0) {
        free(from->blocks[--from->count]);
    }
}

void *take(size_t bytes)
{
    return add(&taken, bytes);
}

void *keep(size_t bytes)
{
    return add(&kept, bytes);
}

void give_back_taken(void)
{
    give_back(&taken);
}

void give_back_kept(void)
{
    give_back(&kept);
}

int read_bytes(void *to, size_t bytes)
{
    return fread(to, 1, bytes, cases) != bytes;
}

int write_bytes(const void *from, size_t bytes)
{
    return fwrite(from, 1, bytes, results) != bytes;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    cases = fopen(argv[1], "rb");
    results = fopen(argv[2], "wb");
    if (cases == NULL || results == NULL) {
        return 2;
    }
    const int failed = run_cases();
    give_back_kept();
    fclose(cases);
    return fclose(results) != 0 || failed != 0;
}
