/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the machine's processor offers (features.def), and its floating-point environment. */
#include "os.h"

#if defined(__x86_64__)

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4]) {
  __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(sub));
}

static int probe(uint32_t leaf, uint32_t sub, int reg, int bit, int state) {
  static const uint64_t needed[4] = {0, 0x6, 0xe6, 0x60000};
  uint32_t r[4];
  cpuid(leaf & 0x80000000u, 0, r);
  if (leaf > r[0]) return 0;
  if (leaf == 7 && sub) {
    cpuid(7, 0, r);
    if (sub > r[0]) return 0;
  }
  cpuid(leaf, sub, r);
  if (!(r[reg] >> bit & 1)) return 0;
  if (!state) return 1;
  cpuid(1, 0, r);
  if (!(r[2] >> 27 & 1)) return 0; /* the system does not use xsave */
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (((uint64_t)high << 32 | low) & needed[state]) == needed[state];
}

int pw_os_cpu_has(uint32_t feature) {
  switch (feature) {
#define PW_X86(number, name, leaf, sub, reg, bit, state) \
  case number: return probe(leaf, sub, reg, bit, state);
#include "features.def"
  }
  return 0;
}

uint32_t pw_os_fp_set(void) {
  uint32_t old = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(0x1f80); /* nearest, no flush, exceptions masked */
  return old;
}
void pw_os_fp_restore(uint32_t old) { __builtin_ia32_ldmxcsr(old); }

#else

unsigned long getauxval(unsigned long type);

#if defined(__aarch64__)

static int probe(int word, int bit) {
  if (word) return (int)(getauxval(word == 1 ? 16 : 26) >> bit & 1);
  register uint64_t bytes __asm__("x0") = 0;
  if (getauxval(16) >> 22 & 1) __asm__ volatile(".inst 0x04bf5020" : "=r"(bytes)); /* rdvl x0, #1 */
  return bytes == (uint64_t)bit;
}

int pw_os_cpu_has(uint32_t feature) {
  switch (feature) {
#define PW_A64(number, name, word, bit) \
  case number: return probe(word, bit);
#include "features.def"
  }
  return 0;
}

uint32_t pw_os_fp_set(void) {
  uint64_t old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0) : "memory");
  return (uint32_t)old;
}
void pw_os_fp_restore(uint32_t old) { __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)old) : "memory"); }

#elif defined(__riscv)

int64_t pw_os_hwprobe(int64_t key);

static int probe(int64_t key, int bit, char letter) {
  if (key == 0) {
    /* vlenb, which exists where vectors do */
    uint64_t bytes = 0;
    if (getauxval(16) >> ('v' - 'a') & 1) __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes));
    return bytes >= (uint64_t)bit;
  }
  int64_t word = pw_os_hwprobe(key);
  if (word >= 0 && key != 3) return (int)(word >> bit & 1);
  return letter != '-' && (getauxval(16) >> (letter - 'a') & 1);
}

int pw_os_cpu_has(uint32_t feature) {
  switch (feature) {
#define PW_RV(number, name, key, bit, letter) \
  case number: return probe(key, bit, letter);
#include "features.def"
  }
  return 0;
}

uint32_t pw_os_fp_set(void) {
  uint64_t old;
  __asm__ volatile("csrrw %0, fcsr, zero" : "=r"(old)::"memory");
  return (uint32_t)old;
}
void pw_os_fp_restore(uint32_t old) { __asm__ volatile("csrw fcsr, %0" ::"r"((uint64_t)old) : "memory"); }

#elif defined(__loongarch__)

/* The capability word is the kernel's word on register state; what it does not list is in the configuration words. */
static int probe(int capability, int word, int bit) {
  if (capability >= 0) return (int)(getauxval(16) >> capability & 1);
  uint64_t value;
  __asm__ volatile("cpucfg %0, %1" : "=r"(value) : "r"((uint64_t)word));
  return (int)(value >> bit & 1);
}

int pw_os_cpu_has(uint32_t feature) {
  switch (feature) {
#define PW_LA(number, name, capability, word, bit) \
  case number: return probe(capability, word, bit);
#include "features.def"
  }
  return 0;
}

uint32_t pw_os_fp_set(void) {
  uint32_t old;
  __asm__ volatile("movfcsr2gr %0, $fcsr0" : "=r"(old));
  __asm__ volatile("movgr2fcsr $fcsr0, $zero" ::: "memory");
  return old;
}
void pw_os_fp_restore(uint32_t old) { __asm__ volatile("movgr2fcsr $fcsr0, %0" ::"r"(old) : "memory"); }

#endif
#endif
