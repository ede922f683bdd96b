#include "cortex_m.h"

/* Placed by cortex_m.ld. */
extern uint32_t stack_top;
extern const uint32_t data_in_flash;
extern uint32_t data_begin;
extern uint32_t data_end;
extern uint32_t bss_begin;
extern uint32_t bss_end;

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };
enum { READ_BINARY = 1, WRITE_BINARY = 5 };
enum { APPLICATION_EXIT = 0x20026 };
enum { FAULT_EXIT_CODE = 99 };

/* A request of the host, which the emulator answers at this breakpoint. */
static int32_t ask(int32_t operation, const void *block)
{
    register int32_t answer __asm__("r0") = operation;
    register const void *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(answer) : "r"(argument) : "memory");
    return answer;
}

static int open_file(const char *name, uint32_t mode)
{
    uint32_t length = 0;
    while (name[length] != '\0') {
        ++length;
    }
    const uint32_t block[3] = {(uint32_t)name, mode, length};
    return (int)ask(SYS_OPEN, block);
}

int open_to_read(const char *name)
{
    return open_file(name, READ_BINARY);
}

int open_to_write(const char *name)
{
    return open_file(name, WRITE_BINARY);
}

size_t read_file(int handle, void *to, size_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)to, bytes};
    return (size_t)ask(SYS_READ, block);
}

size_t write_file(int handle, const void *from, size_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)from, bytes};
    return (size_t)ask(SYS_WRITE, block);
}

void leave(int code)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;) {
        ask(SYS_EXIT_EXTENDED, block);
    }
}

/* The compiler may call these by itself, but must not make calls of their own loops. */
#define AS_WRITTEN __attribute__((optimize("no-tree-loop-distribute-patterns")))
AS_WRITTEN void *memcpy(void *to, const void *from, size_t bytes);
AS_WRITTEN void *memset(void *to, int value, size_t bytes);

void *memcpy(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; ++i) {
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; ++i) {
        ((uint8_t *)to)[i] = (uint8_t)value;
    }
    return to;
}

static void fault(void)
{
    leave(FAULT_EXIT_CODE);
}

/* main() is in another file, so that none of its float registers are saved before there are any. */
static void reset(void)
{
    const uint32_t *from = &data_in_flash;
    for (uint32_t *to = &data_begin; to < &data_end; ++to) {
        *to = *from++;
    }
    for (uint32_t *to = &bss_begin; to < &bss_end; ++to) {
        *to = 0;
    }
    volatile uint32_t *const coprocessor_access = (volatile uint32_t *)0xe000ed88;
    *coprocessor_access |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
    leave(main());
}

typedef void (*handler)(void);
typedef struct {
    uint32_t *stack;
    handler handlers[15];
} vector_table;

extern const vector_table vectors;
__attribute__((section(".vectors"), used)) const vector_table vectors = {
    &stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault}};
