/* An emulated Cortex-M4 without a C library: it talks to the host by semihosting. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stddef.h>
#include <stdint.h>

/* Files of the folder that the emulator runs in. Returns a handle, below 0 where it failed. */
int open_to_read(const char *name);
int open_to_write(const char *name);

/* Both return how many bytes were left over. */
size_t read_file(int handle, void *to, size_t bytes);
size_t write_file(int handle, const void *from, size_t bytes);

/* Ends the emulator with this exit code. */
void leave(int code);

/* What the program does; the emulator then ends with what it returns. */
int main(void);

#endif
