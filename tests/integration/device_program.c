// What the tests of devices run: each task is one word, and some take a number.
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void mark(int tag) { getpriority((id_t)0x4D41524B, (id_t)tag); }

// Two instructions each time round, with any compiler.
static void turn(long times) {
#if defined(__aarch64__)
  __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(times) : : "cc");
#else
  for (volatile long i = 0; i < times; i++) {
  }
#endif
}

static void *turning(void *times) {
  turn(*(long *)times);
  return NULL;
}

static void sleep_for_ever(void) {
  printf("asleep\n");
  fflush(stdout);
  for (;;) pause();
}

static int use_network(void) {
  struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(9)};
  int handle = socket(AF_INET, SOCK_DGRAM, 0);
  return sendto(handle, "x", 1, 0, (struct sockaddr *)&nobody, sizeof nobody) == 1 ? 0 : 1;
}

static void *using_network(void *unused) {
  (void)unused;
  use_network();
  return NULL;
}

// As a C library does to look up a user, or to hear of network interfaces: no network.
static void use_local_sockets(void) {
  struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
  int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  connect(handle, (struct sockaddr *)&nowhere, sizeof nowhere);
  close(socket(AF_NETLINK, SOCK_RAW, 0));
}

static void run_thread(void *(*work)(void *), long argument) {
  pthread_t thread;
  pthread_create(&thread, NULL, work, &argument);
  pthread_join(thread, NULL);
}

static void *waiting(void *unused) {
  for (;;) pause();
  return unused;
}

static int show_file(const char *path) {
  FILE *file = fopen(path, "r");
  if (file == NULL) return 1;
  for (int c = getc(file); c != EOF; c = getc(file)) putchar(c);
  return fclose(file);
}

static int write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0 ? 0 : 1;
}

static int stay(const char *task) {
  if (strcmp(task, "stubborn") == 0) signal(SIGTERM, SIG_IGN), signal(SIGINT, SIG_IGN);
  if (strcmp(task, "parent") == 0 && fork() == 0) fork();
  if (strcmp(task, "deserter") == 0 && fork() != 0) return 4;
  sleep_for_ever();
  return 1;
}

static int count(const char *task, long times) {
  mark(20);
  if (strcmp(task, "threads") == 0) run_thread(turning, times);
  pthread_t companion;
  if (strcmp(task, "companion") == 0) pthread_create(&companion, NULL, waiting, NULL);
  if (strcmp(task, "process") == 0 && fork() == 0) mark(99), _exit(0);
  if (strcmp(task, "process") == 0) wait(NULL);
  turn(times);
  mark(21);
  turn(times);
  mark(22);
  return 3;
}

static int reach(const char *task) {
  if (strcmp(task, "network") == 0) return use_network();
  if (strcmp(task, "network-in-thread") == 0) run_thread(using_network, 0);
  if (strcmp(task, "inherited") == 0) return connect(0, NULL, 0) == 0 ? 0 : 1;
  use_local_sockets();
  return 0;
}

static int show(int size, char **words) {
  for (int i = 2; i < size; i++) printf("[%s]\n", words[i]);
  fprintf(stderr, "to stderr\n");
  return 9;
}

int main(int size, char **words) {
  const char *task = size > 1 ? words[1] : "", *more = size > 2 ? words[2] : "";
  if (strcmp(task, "arguments") == 0) return show(size, words);
  if (strcmp(task, "exit") == 0) return atoi(more);
  if (strcmp(task, "crash") == 0) raise(SIGSEGV);
  if (strcmp(task, "die") == 0) raise(SIGKILL);
  if (strcmp(task, "file") == 0) return show_file(more);
  if (strcmp(task, "hwcap") == 0) return printf("%lx\n", getauxval(AT_HWCAP)) < 0;
  if (strcmp(task, "write") == 0) return write_file(more, words[3]);
  if (strcmp(task, "flood") == 0) for (;;) puts("a line of many, of which there is no end");
  if (strcmp(task, "environment") == 0) for (char **at = environ; *at; at++) puts(*at);
  if (strstr("alone threads companion process", task)) return count(task, atol(more));
  if (strstr("sleeper stubborn parent deserter", task)) return stay(task);
  if (strstr("network-in-thread inherited local", task)) return reach(task);
  return 2;
}
