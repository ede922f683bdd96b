/* Does one thing that an emulated machine must report; see test_qemu_system.py. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void reach(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    int handle = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, address, &to.sin_addr);
    int result = connect(handle, (struct sockaddr *)&to, sizeof to);
    printf("%s: %s\n", address, result == 0 ? "reached" : strerror(errno));
    close(handle);
}

static void try_to_open(const char *name, const char *mode) {
    FILE *file = fopen(name, mode);
    printf("%s: %s\n", name, file == NULL ? strerror(errno) : "opened");
    if (file != NULL) fclose(file);
}

static int report(int count, char **arguments) {
    for (int i = 2; i < count; i++) printf("[%s]\n", arguments[i]);
    reach("127.0.0.1");
    reach("192.0.2.1");
    try_to_open("/boot/key", "r");
    try_to_open("/dev/ttyS0", "w");
    try_to_open("/made.txt", "w");
    try_to_open("given.txt", "r");
    try_to_open("given.txt", "w");
    FILE *made = fopen("made file.bin", "wb");
    fwrite("\0\n\r\xff", 1, 4, made);
    fclose(made);
    fwrite("\0\x1b[31m\r\n\xff", 1, 9, stderr);
    return 7;
}

static void copy(const char *from, const char *to) {
    FILE *source = fopen(from, "r");
    FILE *target = fopen(to, "w");
    int character;
    while ((character = getc(source)) != EOF) putc(character, target);
    fclose(source);
    fclose(target);
}

static void loop(void) {
    volatile int sum = 0;
    long long before = now_ns();
    for (int i = 0; i < 20000000; i++) sum += i;
    long long after = now_ns();
    printf("began at %lld ns, took %lld ns\n", before, after - before);
}

int main(int count, char **arguments) {
    const char *what = arguments[1];
    if (strcmp(what, "report") == 0) return report(count, arguments);
    if (strcmp(what, "loop") == 0) loop();
    if (strcmp(what, "copy") == 0) copy(arguments[2], arguments[3]);
    if (strcmp(what, "crash") == 0) abort();
    if (strcmp(what, "hang") == 0) for (;;) pause();
    if (strcmp(what, "fill") == 0) {
        size_t size = strtoul(arguments[2], NULL, 10);
        volatile char *memory = memset(malloc(size), 1, size);
        printf("filled %zu bytes, the last is %d\n", size, memory[size - 1]);
    }
    return 0;
}
