/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A plugin of QEMU that counts the instructions of the emulated program, and writes the counts
 * down whenever the program passes a marker: the system call getpriority(0x4D41524B, tag), which
 * the kernel answers with EINVAL. With it counts are of exactly the code between two markers.
 *
 *   qemu-aarch64 -plugin count.so,out=/ABSOLUTE/PATH ./program
 *
 * A line is JSON: {"tag":20,"exact":true,"instructions":12,"simd":{"sdot":3,...}} for a marker,
 * and {"end":N} when the program has come to its own end, after N markers. `exact` is false where
 * another thread lived since the marker before, or a forked process passed this one.
 *
 * Nothing of QEMU is needed to compile it: what is used of its plugin interface is declared here.
 *
 *   cc -shared -fPIC -O2 -fvisibility=hidden -DAPI=1 count.c -o count.so
 *
 * API is the version of that interface: 1 up to QEMU 8, 4 from QEMU 9.2.
 */

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if !defined(API) || (API != 1 && API != 4)
#error "Say which version of QEMU's plugin interface is meant: -DAPI=1 or -DAPI=4."
#endif

/* ---- QEMU's plugin interface ------------------------------------------------------------- */

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* Only the beginning, which all versions share. */
struct qemu_info {
  const char *target_name;
};

typedef void (*translated_fn)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*vcpu_fn)(qemu_plugin_id_t, unsigned int);
typedef void (*end_fn)(qemu_plugin_id_t, void *);
typedef void (*syscall_fn)(qemu_plugin_id_t, unsigned int, int64_t number, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_fn);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, vcpu_fn);
void qemu_plugin_register_vcpu_exit_cb(qemu_plugin_id_t, vcpu_fn);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_fn);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, end_fn, void *);

enum { INLINE_ADD_U64 = 0 };

#if API == 1
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation,
                                              void *counter, uint64_t amount);
#else
typedef struct {
  void *scoreboard;
  size_t offset;
} qemu_plugin_u64;

size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *into, size_t size);
void *qemu_plugin_scoreboard_new(size_t element_size);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *, int operation,
                                                       qemu_plugin_u64 counter, uint64_t amount);
#endif

/* ---- The classes of 64-bit Arm instructions ----------------------------------------------- */

/* Every mask has a test that assembles instructions in and out of its class. */

static bool matches(uint32_t word, uint32_t mask, uint32_t value) {
  return (word & mask) == value;
}

/* SDOT, UDOT, USDOT and SUDOT: of vectors, and by one element. */
static bool is_sdot(uint32_t word) {
  return matches(word, 0x9FE0FC00, 0x0E809400) || matches(word, 0xBFE0FC00, 0x0E809C00) ||
         matches(word, 0x9FC0F400, 0x0F80E000) || matches(word, 0xBF40F400, 0x0F00F000);
}

/* SMMLA, UMMLA and USMMLA. */
static bool is_smmla(uint32_t word) {
  return matches(word, 0xDFE0FC00, 0x4E80A400) || matches(word, 0xFFE0FC00, 0x4E80AC00);
}

/* SMLAL and UMLAL, the second halves too: of vectors, and by one element. */
static bool is_smlal(uint32_t word) {
  return matches(word, 0x9F20FC00, 0x0E208000) || matches(word, 0x9F00F400, 0x0F002000);
}

/* SMULL and UMULL likewise. */
static bool is_smull(uint32_t word) {
  return matches(word, 0x9F20FC00, 0x0E20C000) || matches(word, 0x9F00F400, 0x0F00A000);
}

/* FMLA of single precision: of vectors, and by one element. */
static bool is_fmla_f32(uint32_t word) {
  return matches(word, 0xBFE0FC00, 0x0E20CC00) || matches(word, 0xBFC0F400, 0x0F801000);
}

/* FMLA of half precision likewise. */
static bool is_fmla_f16(uint32_t word) {
  return matches(word, 0xBFE0FC00, 0x0E400C00) || matches(word, 0xBFC0F400, 0x0F001000);
}

static bool is_sve(uint32_t word) { return matches(word, 0x1E000000, 0x04000000); }

static bool is_sme(uint32_t word) { return matches(word, 0x9E000000, 0x80000000); }

/* Any calculation of the SIMD unit, that of scalar floating point included; not SVE and SME. */
static bool is_simd(uint32_t word) { return matches(word, 0x0E000000, 0x0E000000); }

/* Loads and stores are one group of encodings; SVE and SME have theirs elsewhere. */
static bool is_memory(uint32_t word) { return matches(word, 0x0A000000, 0x08000000); }

/* Read, change and write back: CAS, CASP, SWP, LDADD and their kin. LDAPR only loads. */
static bool is_atomic(uint32_t word) {
  bool compare_and_swap = matches(word, 0x3FA07C00, 0x08A07C00);
  bool of_pair = matches(word, 0xBFA07C00, 0x08207C00);
  bool loads_only = matches(word, 0x3F20FC00, 0x3820C000);
  return compare_and_swap || of_pair || (matches(word, 0x3F200C00, 0x38200000) && !loads_only);
}

/* PRFM and PRFUM, from a literal too: they load nothing into a register. */
static bool is_prefetch(uint32_t word) {
  bool literal = matches(word, 0xFF000000, 0xD8000000);
  return literal || matches(word, 0xFFC00000, 0xF9800000) ||
         matches(word, 0xFFE00C00, 0xF8800000) || matches(word, 0xFFE00C00, 0xF8A00800);
}

static bool is_load(uint32_t word) {
  if (!is_memory(word) || is_prefetch(word)) return false;
  bool literal = matches(word, 0x3B000000, 0x18000000);
  bool signed_general = matches(word, 0x3C800000, 0x38800000);
  bool signed_unscaled = matches(word, 0x3FA00C00, 0x19800000);
  bool authenticated = matches(word, 0xFF200400, 0xF8200400);
  bool loads_only = matches(word, 0x3F20FC00, 0x3820C000);
  bool with_load_bit = matches(word, 0x00400000, 0x00400000);
  return is_atomic(word) || literal || signed_general || signed_unscaled || authenticated ||
         loads_only || with_load_bit;
}

static bool is_store(uint32_t word) {
  if (!is_memory(word) || is_prefetch(word)) return false;
  return is_atomic(word) || !is_load(word);
}

static const struct {
  const char *name;
  bool (*includes)(uint32_t word);
} CLASSES[] = {
    {"sdot", is_sdot},   {"smmla", is_smmla},       {"smlal", is_smlal},       {"smull", is_smull},
    {"fmla-f32", is_fmla_f32}, {"fmla-f16", is_fmla_f16}, {"sve", is_sve},     {"sme", is_sme},
    {"load", is_load},   {"store", is_store},       {"simd", is_simd},
};

#define CLASS_COUNT (sizeof CLASSES / sizeof CLASSES[0])
#define ALL CLASS_COUNT /* the place of the counter of all instructions */

/* ---- The counters -------------------------------------------------------------------------- */

#if API == 1
static uint64_t counters[CLASS_COUNT + 1];

static void make_counters(void) {}

static uint64_t counted(size_t place) { return counters[place]; }

static void count_with(struct qemu_plugin_tb *block, size_t place, uint64_t amount) {
  qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &counters[place], amount);
}

static uint32_t word_of(const struct qemu_plugin_insn *instruction) {
  uint32_t word;
  memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
  return word;
}
#else
static qemu_plugin_u64 counters[CLASS_COUNT + 1];

static void make_counters(void) {
  for (size_t place = 0; place <= ALL; place++) {
    counters[place].scoreboard = qemu_plugin_scoreboard_new(sizeof(uint64_t));
  }
}

static uint64_t counted(size_t place) { return qemu_plugin_u64_sum(counters[place]); }

static void count_with(struct qemu_plugin_tb *block, size_t place, uint64_t amount) {
  qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, INLINE_ADD_U64, counters[place], amount);
}

static uint32_t word_of(const struct qemu_plugin_insn *instruction) {
  uint32_t word = 0;
  qemu_plugin_insn_data(instruction, &word, sizeof word);
  return word;
}
#endif

/* ---- The record ---------------------------------------------------------------------------- */

static const uint64_t MARKER = 0x4D41524B;

static const struct target {
  const char *name;
  int64_t getpriority;
  bool has_classes;
} TARGETS[] = {{"aarch64", 141, true}, {"arm", 96, false}};

static const struct target *target;
static char *record;
static pid_t process;
static unsigned int threads;  /* that live */
static bool was_alone = true; /* since the marker before */
static unsigned long marks;

/* The program shares the emulator's file descriptors: none is kept open that it might meet. */
static void write_down(const char *line, size_t size) {
  int file = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  bool written = file >= 0 && write(file, line, size) == (ssize_t)size;
  if (!written) perror("count: a line of the record is missing");
  if (file >= 0) close(file);
}

static void mark(int32_t tag) {
  char line[1024];
  bool exact = was_alone && getpid() == process;
  was_alone = threads == 1;
  int size = snprintf(line, sizeof line, "{\"tag\":%d,\"exact\":%s,\"instructions\":%llu,\"simd\":{",
                      tag, exact ? "true" : "false", (unsigned long long)counted(ALL));
  for (size_t place = 0; target->has_classes && place < CLASS_COUNT; place++) {
    size += snprintf(line + size, sizeof line - (size_t)size, "%s\"%s\":%llu", place ? "," : "",
                     CLASSES[place].name, (unsigned long long)counted(place));
  }
  size += snprintf(line + size, sizeof line - (size_t)size, "}}\n");
  write_down(line, (size_t)size);
  marks++;
}

/* ---- What QEMU calls ----------------------------------------------------------------------- */

/* A block runs from its first instruction to its last, and a system call is always the last. */
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  size_t length = qemu_plugin_tb_n_insns(block);
  uint64_t amounts[CLASS_COUNT + 1] = {0};
  amounts[ALL] = length;
  for (size_t i = 0; target->has_classes && i < length; i++) {
    uint32_t word = word_of(qemu_plugin_tb_get_insn(block, i));
    for (size_t place = 0; place < CLASS_COUNT; place++) {
      amounts[place] += CLASSES[place].includes(word);
    }
  }
  for (size_t place = 0; place <= ALL; place++) {
    if (amounts[place] > 0) count_with(block, place, amounts[place]);
  }
}

static void on_thread(qemu_plugin_id_t id, unsigned int vcpu) {
  (void)id, (void)vcpu;
  if (__atomic_add_fetch(&threads, 1, __ATOMIC_SEQ_CST) > 1) was_alone = false;
}

static void on_thread_end(qemu_plugin_id_t id, unsigned int vcpu) {
  (void)id, (void)vcpu;
  __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
}

static void on_system_call(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                           uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                           uint64_t a7, uint64_t a8) {
  (void)id, (void)vcpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number == target->getpriority && (uint32_t)a1 == MARKER) mark((int32_t)a2);
}

/* A child that the program forked has this record too, but not the program's end. */
static void on_end(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  char line[64];
  if (getpid() == process) {
    write_down(line, (size_t)snprintf(line, sizeof line, "{\"end\":%lu}\n", marks));
  }
}

EXPORT int qemu_plugin_version = API;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                               char **argv) {
  for (size_t i = 0; i < sizeof TARGETS / sizeof TARGETS[0]; i++) {
    if (strcmp(info->target_name, TARGETS[i].name) == 0) target = &TARGETS[i];
  }
  if (target == NULL || argc != 1 || strncmp(argv[0], "out=/", 5) != 0) {
    fprintf(stderr, "count: use it as count.so,out=/ABSOLUTE/PATH with aarch64 or arm\n");
    return 1;
  }
  record = strdup(argv[0] + strlen("out="));
  process = getpid();
  make_counters();
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_init_cb(id, on_thread);
  qemu_plugin_register_vcpu_exit_cb(id, on_thread_end);
  qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
  qemu_plugin_register_atexit_cb(id, on_end, NULL);
  return 0;
}
