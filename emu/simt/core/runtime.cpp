// SPDX-License-Identifier: Apache-2.0 OR MIT
// The machine beneath kernels: lanes as fibers, the device's memory, and checks of every access.
//
// Kernels are compiled with -fsanitize=thread, whose calls before each load and store end here, not in a sanitizer's library. An access is
// in the lane's own stack, in the block's memory, in an allocation of the device, or it is a fault. Of each byte the machine knows the last
// write and the last read of the running launch; two accesses of which one is a write must be of one lane, or be ordered by a barrier.
#include "runtime.h"
#include "stacks.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include <string>
#include <vector>

// Positions of the running lane. Kernels see them as constants, which within a lane they are.
uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {
uint64_t block_number = 0;

namespace {

// ---- lanes

constexpr size_t STACK = 128 << 10, GUARD = 4096;
constexpr unsigned MOST_LANES = 128;

enum State : unsigned char { Fresh, Ready, AtBarrier, Meeting, Ended };

struct Fiber {
  Context context;
  uint3 at;
  unsigned thread, lane, warp;
  int stack; // number in `stacks`, -1 = none
  State state;
  Who who;
  Lanes mask;
  Call call;  // also where it stands at a barrier
  void *out;
  unsigned char in[64];
  struct Copy { void *to; const void *from; size_t bytes, zeros; uint64_t group; };
  std::vector<Copy> copies;
  uint64_t groups; // of copies that were committed
};

struct Warp {
  Lanes alive;
  unsigned first, count; // its fibers
  unsigned waiting;      // in meetings
  uint32_t epoch;        // since when accesses of its lanes are not ordered
};

std::vector<char *> stacks;
std::vector<int> free_stacks;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
Fiber *current = nullptr;
Context scheduler;
const Launch *launch_now = nullptr;
const Kernel *kernel_now = nullptr;
unsigned alive = 0, at_barrier = 0, block_size = 0;
int barrier_votes = 0, barrier_result = 0;
bool failed = false;
char text[4096];

// Where the host's stack was when the launch began, and how far above it the frames of the launch reach.
uintptr_t host_stack = 0;
constexpr uintptr_t HOST_FRAMES = 64 << 10;

// Range that accesses need no check in: the running lane's stack, or everything while no kernel runs.
uintptr_t exempt_from = 0, exempt_bytes = UINTPTR_MAX;

// ---- epochs: a number for every span between barriers of every block that ran. Records of accesses hold them in 18 bits.

constexpr uint32_t LAST_EPOCH = (1u << 18) - 2;
uint32_t epoch_now = 1, epoch_of_launch = 1, epoch_of_block = 1, epoch_of_barrier = 1;

// A record: epoch, thread, and two flags. A cell has the last write below and the last read above.
typedef uint32_t Record;
constexpr Record MANY = 1;   // of a read: by several lanes
constexpr Record ATOMIC = 2; // of a write
constexpr Record BLOCKS = 2; // of a read: by several blocks
constexpr Record record(uint32_t epoch, unsigned thread) { return epoch << 14 | thread << 2; }
constexpr uint32_t epoch_in(Record r) { return r >> 14; }
constexpr unsigned thread_in(Record r) { return r >> 2 & 0xfff; }

// ---- memory

// The device's memory is taken from the system in chunks, and what is known of its bytes in pages: a process may be allowed few addresses.
constexpr size_t DEVICE_BYTES = size_t(32) << 30, CHUNK = size_t(16) << 20, UNIT = 256, PAGE = 4096;
constexpr size_t SHARED = size_t(1) << 21, DYNAMIC = SHARED / 2, SHARED_UNIT = 16;

struct Block { uintptr_t from, to; bool live; };
struct Chunk {
  uintptr_t from;
  size_t bytes, used;
  std::vector<uint32_t> owner;   // one a unit: number in `blocks`
  std::vector<uint64_t *> cells; // one a page: its cells, one a byte, once a kernel touched it
};
std::vector<Chunk> chunks;
Chunk *chunk_now = nullptr; // that of the last access
std::vector<Block> blocks;
size_t heap_taken = 0;
std::vector<std::vector<uint32_t>> spare; // ended blocks by the logarithm of their room

char *arena = nullptr;
uint64_t *arena_cells = nullptr;
uint16_t *arena_owner = nullptr;   // one a SHARED_UNIT: number in `variables`
struct Placed { uintptr_t from, to; const char *name; };
std::vector<Placed> variables;
size_t arena_used = 0;
size_t shared_bytes = 0;

void *reserve(size_t bytes) {
  void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    fprintf(stderr, "the emulator cannot reserve %zu bytes of addresses\n", bytes);
    _exit(3);
  }
  return at;
}

void prepare() {
  if (arena) return;
  blocks.push_back({0, 0, false});
  spare.resize(64);
  arena = (char *)reserve(SHARED);
  arena_cells = (uint64_t *)reserve(SHARED * sizeof *arena_cells);
  arena_owner = (uint16_t *)reserve(SHARED / SHARED_UNIT * sizeof *arena_owner);
}

// The chunk that an address lies in, or null.
inline Chunk *chunk_of(uintptr_t a) {
  if (chunk_now && a - chunk_now->from < chunk_now->bytes) return chunk_now;
  for (Chunk &c : chunks)
    if (a - c.from < c.bytes) return chunk_now = &c;
  return nullptr;
}

// The cells of the bytes from an address on, to the end of its page.
inline uint64_t *cells_at(Chunk &c, uintptr_t a) {
  uint64_t *&page = c.cells[(a - c.from) / PAGE];
  if (__builtin_expect(!page, 0)) {
    page = (uint64_t *)calloc(PAGE, sizeof *page);
    if (!page) {
      fprintf(stderr, "the emulator has no memory left\n");
      _exit(3);
    }
  }
  return page + (a - c.from) % PAGE;
}

// ---- reports

void describe(const char *format, va_list list) {
  size_t n = 0;
  const char *name = kernel_now ? kernel_now->name : launch_now ? launch_now->kernel : "?";
  auto put = [&](const char *f, auto... a) {
    int k = snprintf(text + n, sizeof text - n, f, a...); // every format is a literal below
    n = k < 0 || n + k >= sizeof text ? sizeof text - 1 : n + k;
  };
  put("kernel %s", name);
  if (current)
    put(", block (%u,%u,%u), thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, current->at.x, current->at.y, current->at.z);
  put("%s", ": ");
  int k = vsnprintf(text + n, sizeof text - n, format, list);
  n = k < 0 || n + k >= sizeof text ? sizeof text - 1 : n + k;
  if (kernel_now && kernel_now->nodes[0]) put("; it computes %s", kernel_now->nodes);
}

void explain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void explain(const char *format, ...) {
  va_list list;
  va_start(list, format);
  describe(format, list);
  va_end(list);
  failed = true;
}

[[noreturn]] void leave() {
  Context dead;
  change(dead, scheduler);
  __builtin_unreachable();
}

// ---- races

// Whether what a record says is ordered before the running lane.
bool ordered(Record r) {
  uint32_t e = epoch_in(r);
  if (e < epoch_of_block) return false;
  if (e < epoch_of_barrier || thread_in(r) == current->thread) return true;
  return thread_in(r) / launch_now->chip->lanes == current->warp && e < warps[current->warp].epoch;
}

[[noreturn]] void race(const void *at, size_t bytes, int access, Record other, bool other_wrote, uintptr_t from) {
  const char *mine = access == Atomic ? "an atomic update of" : access == Write ? "a write to" : "a read of";
  bool elsewhere = epoch_in(other) < epoch_of_block;
  char who[64];
  if (elsewhere) snprintf(who, sizeof who, "another block");
  else if (!other_wrote && (other & MANY)) snprintf(who, sizeof who, "several threads");
  else snprintf(who, sizeof who, "thread %u", thread_in(other));
  bool shared = (uintptr_t)at - (uintptr_t)arena < SHARED;
  char where[160];
  if (shared) {
    uint16_t v = arena_owner[((uintptr_t)at - (uintptr_t)arena) / SHARED_UNIT];
    snprintf(where, sizeof where, "shared memory (%s, byte %zu)", variables[v].name, (size_t)((uintptr_t)at - variables[v].from));
  } else {
    const Chunk &c = *chunk_of((uintptr_t)at);
    const Block &b = blocks[c.owner[((uintptr_t)at - c.from) / UNIT]];
    snprintf(where, sizeof where, "global memory (byte %zu of an allocation of %zu)", (size_t)((uintptr_t)at - b.from),
             (size_t)(b.to - b.from));
  }
  fault("race: %s %zu bytes of %s, which %s %s without %s in between, at @%lx", mine, bytes, where, who,
        other_wrote ? "wrote" : "read", elsewhere ? "an end of the launch" : "a barrier", (unsigned long)from);
}

// Records before epoch `since` do not count: of other launches, and in the block's memory of other blocks.
inline void check_cells(uint64_t *cells, const void *at, size_t bytes, int access, uint32_t since, uintptr_t from) {
  const Record mine = record(warps[current->warp].epoch, current->thread);
  for (size_t i = 0; i < bytes; i++) {
    uint64_t c = cells[i];
    Record w = (Record)c, r = (Record)(c >> 32);
    if (__builtin_expect(epoch_in(w) >= since && !ordered(w) && !(access == Atomic && (w & ATOMIC)), 0))
      race(at, bytes, access, w, true, from);
    if (access == Read) {
      Record now = mine;
      if (epoch_in(r) >= since) {
        if (epoch_in(r) < epoch_of_block || (r & BLOCKS)) now |= BLOCKS;
        if (!ordered(r) || ((r & MANY) && epoch_in(r) >= epoch_of_barrier)) now |= MANY;
      }
      cells[i] = (c & 0xffffffffu) | (uint64_t)now << 32;
    } else {
      if (epoch_in(r) >= since) {
        bool apart = (r & BLOCKS) || !ordered(r) || ((r & MANY) && epoch_in(r) >= epoch_of_barrier && epoch_in(r) >= warps[current->warp].epoch);
        if (__builtin_expect(apart, 0)) race(at, bytes, access, r, false, from);
      }
      cells[i] = mine | (access == Atomic ? ATOMIC : 0);
    }
  }
}

// Kernels may read, and write where the system lets them, what the program itself has: constants, tables, variables of the device.
extern "C" char __executable_start, _end;

__attribute__((noinline)) void check_elsewhere(uintptr_t a, size_t bytes, int access, uintptr_t from) {
  if (a >= (uintptr_t)&__executable_start && a + bytes <= (uintptr_t)&_end) return;
  // A launch names its kernel by a variable or a reference of the host's, a word on its stack.
  if (access == Read && bytes == sizeof(void *) && a - host_stack < HOST_FRAMES) return;
  const char *kind = access == Read ? "reads" : "writes";
  if (a < 4096) fault("%s %zu bytes at a null pointer (%#lx), at @%lx", kind, bytes, (unsigned long)a, (unsigned long)from);
  for (const Fiber &f : fibers) {
    if (f.stack < 0) continue;
    if (a - (uintptr_t)stacks[f.stack] < STACK)
      fault("%s %zu bytes in the local memory of thread %u, at @%lx", kind, bytes, f.thread, (unsigned long)from);
  }
  fault("%s %zu bytes at %#lx, which is no memory of the device, at @%lx", kind, bytes, (unsigned long)a, (unsigned long)from);
}

inline void check(const void *at, size_t bytes, int access, uintptr_t from) {
  uintptr_t a = (uintptr_t)at;
  if (a - exempt_from < exempt_bytes) return;
  if (Chunk *c = chunk_of(a)) {
    const Block &b = blocks[c->owner[(a - c->from) / UNIT]];
    if (__builtin_expect(a < b.from || a + bytes > b.to || !b.live, 0)) {
      const char *kind = access == Read ? "reads" : "writes";
      if (b.to == 0)
        fault("out of bounds: %s %zu bytes at %#lx, where nothing is allocated, at @%lx", kind, bytes, (unsigned long)a, (unsigned long)from);
      fault("out of bounds: %s %zu bytes at byte %ld of an allocation of %zu%s, at @%lx", kind, bytes, (long)(a - b.from),
            (size_t)(b.to - b.from), b.live ? "" : " that was freed", (unsigned long)from);
    }
    for (size_t done = 0; done < bytes;) {
      const size_t left = PAGE - (a + done - c->from) % PAGE, part = bytes - done < left ? bytes - done : left;
      check_cells(cells_at(*c, a + done), (const char *)at + done, part, access, epoch_of_launch, from);
      done += part;
    }
    return;
  }
  const uintptr_t o = a - (uintptr_t)arena;
  if (o < SHARED) {
    uint16_t v = arena_owner[o / SHARED_UNIT];
    if (__builtin_expect(v == 0 || a < variables[v].from || a + bytes > variables[v].to, 0)) {
      const char *kind = access == Read ? "reads" : "writes";
      if (v == 0) fault("out of bounds: %s %zu bytes of shared memory that the block does not have, at @%lx", kind, bytes, (unsigned long)from);
      fault("out of bounds: %s %zu bytes at byte %ld of shared variable %s, which has %zu, at @%lx", kind, bytes,
            (long)(a - variables[v].from), variables[v].name, (size_t)(variables[v].to - variables[v].from), (unsigned long)from);
    }
    check_cells(arena_cells + o, at, bytes, access, epoch_of_block, from);
    return;
  }
  check_elsewhere(a, bytes, access, from);
}

// Records can hold no later epoch: all of them are forgotten.
void forget() {
  for (Chunk &c : chunks)
    for (uint64_t *page : c.cells)
      if (page) memset(page, 0, PAGE * sizeof *page);
  madvise(arena_cells, SHARED * sizeof *arena_cells, MADV_DONTNEED);
  epoch_now = epoch_of_launch = epoch_of_block = epoch_of_barrier = 1;
  for (Warp &w : warps) w.epoch = 1;
}

uint32_t next_epoch() {
  if (epoch_now >= LAST_EPOCH) forget();
  return ++epoch_now;
}

// ---- the schedule

int give_stack() {
  if (free_stacks.empty()) {
    char *at = (char *)reserve(STACK + GUARD);
    mprotect(at, GUARD, PROT_NONE);
    stacks.push_back(at + GUARD);
    return (int)stacks.size() - 1;
  }
  int s = free_stacks.back();
  free_stacks.pop_back();
  return s;
}

void body() {
  launch_now->body(launch_now->context);
  current->state = Ended;
  leave();
}

void stop() { change(current->context, scheduler); }

void resume(Fiber &f) {
  if (f.state == Fresh) {
    f.stack = give_stack();
    begin_at(f.context, stacks[f.stack], STACK, body);
  }
  f.state = Ready;
  current = &f;
  threadIdx = f.at;
  exempt_from = (uintptr_t)stacks[f.stack], exempt_bytes = STACK;
  change(scheduler, f.context);
  exempt_from = 0, exempt_bytes = UINTPTR_MAX;
  if (f.state == Ended) {
    free_stacks.push_back(f.stack);
    f.stack = -1;
    alive--;
    warps[f.warp].alive &= ~((Lanes)1 << f.lane);
  }
}

bool same_place(const Call &a, const Call &b) { return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file)); }

// All lanes of `who` have met: computes what each one gets and lets them go.
void release(Warp &w, Lanes who) {
  Team t;
  t.who = who, t.lanes = launch_now->chip->lanes;
  const Fiber *first = nullptr;
  for (unsigned i = 0; i < w.count; i++) {
    Fiber &f = fibers[w.first + i];
    if (!(who >> f.lane & 1)) continue;
    t.call[f.lane] = &f.call, t.out[f.lane] = f.out;
    if (!first) first = &f;
    current = &f;
    threadIdx = f.at;
    if (f.call.operation != first->call.operation || !same_place(f.call, first->call)) {
      explain("divergence: it is in %s of line %d, and lane %u of its warp in %s of line %d", f.call.what, f.call.line, first->lane,
              first->call.what, first->call.line);
      return;
    }
  }
  if (first->call.operation) first->call.operation(t);
  else if (launch_now->chip->warp_barrier_orders) w.epoch = next_epoch();
  if (failed) return;
  for (unsigned i = 0; i < w.count; i++) {
    Fiber &f = fibers[w.first + i];
    if (who >> f.lane & 1) f.state = Ready, w.waiting--;
  }
}

// Whether some meeting of named lanes is complete; it is released.
bool settle_named(Warp &w) {
  for (unsigned i = 0; i < w.count; i++) {
    Fiber &f = fibers[w.first + i];
    if (f.state != Meeting || f.who != Named) continue;
    Lanes who = f.mask & w.alive, here = 0;
    for (unsigned k = 0; k < w.count; k++) {
      const Fiber &g = fibers[w.first + k];
      if (g.state == Meeting && g.who == Named && g.mask == f.mask) here |= (Lanes)1 << g.lane;
    }
    if (here != who) continue;
    release(w, who);
    return true;
  }
  return false;
}

// Lanes that stand in one call that names nobody, once no lane of the warp can go on.
bool settle_together(Warp &w) {
  for (unsigned i = 0; i < w.count; i++) {
    Fiber &f = fibers[w.first + i];
    if (f.state != Meeting || f.who != Together) continue;
    Lanes here = 0;
    for (unsigned k = 0; k < w.count; k++) {
      const Fiber &g = fibers[w.first + k];
      if (g.state == Meeting && g.who == Together && g.call.operation == f.call.operation && same_place(g.call, f.call))
        here |= (Lanes)1 << g.lane;
    }
    if (here != w.alive) {
      current = &f;
      threadIdx = f.at;
      unsigned missing = __builtin_ctzll((uint64_t)(w.alive & ~here) ? (uint64_t)(w.alive & ~here) : 1);
      explain("divergence: %s of line %d is reached by %d of the %d lanes of the warp, not by lane %u", f.call.what, f.call.line,
              __builtin_popcountll((uint64_t)here) + __builtin_popcountll((uint64_t)(here >> 64)),
              __builtin_popcountll((uint64_t)w.alive) + __builtin_popcountll((uint64_t)(w.alive >> 64)), missing);
      return false;
    }
    release(w, here);
    return true;
  }
  return false;
}

void run_warp(Warp &w) {
  for (;;) {
    bool ran = false;
    for (unsigned i = 0; i < w.count && !failed; i++) {
      Fiber &f = fibers[w.first + i];
      if (f.state > Ready) continue;
      resume(f);
      ran = true;
    }
    if (failed) return;
    if (w.waiting && (settle_named(w) || failed || settle_together(w))) {
      if (failed) return;
      continue;
    }
    if (failed || !ran) return;
  }
}

// Nobody can go on: says who waits for whom.
void stuck() {
  const Fiber *waits = nullptr, *other = nullptr;
  for (State s : {Meeting, AtBarrier})
    for (unsigned t = 0; t < block_size && !waits; t++)
      if (fibers[t].state == s) waits = &fibers[t];
  for (unsigned t = 0; t < block_size && waits && !other; t++) {
    const Fiber &f = fibers[t];
    const bool awaited = waits->state != Meeting || (f.warp == waits->warp && (waits->mask >> f.lane & 1));
    if (awaited && (f.state != waits->state || !same_place(f.call, waits->call))) other = &f;
  }
  if (!waits) return;
  current = const_cast<Fiber *>(waits);
  threadIdx = waits->at;
  if (!other) explain("divergence: it waits in %s of line %d for lanes that do not exist", waits->call.what, waits->call.line);
  else if (other->state == Ended)
    explain("divergence: it waits in %s of line %d for thread %u, which has ended", waits->call.what, waits->call.line, other->thread);
  else
    explain("divergence: it waits in %s of line %d for thread %u, which waits in %s of line %d", waits->call.what, waits->call.line,
            other->thread, other->call.what, other->call.line);
}

void run_block(uint3 at) {
  const Launch &l = *launch_now;
  blockIdx = at;
  block_number++;
  epoch_of_block = epoch_of_barrier = next_epoch();
  if (arena_used) memset(arena_owner + DYNAMIC / SHARED_UNIT, 0, (arena_used + SHARED_UNIT - 1) / SHARED_UNIT * sizeof *arena_owner);
  variables.resize(1);
  variables[0] = {0, 0, ""};
  arena_used = 0;
  shared_bytes = l.dynamic;
  if (l.dynamic) {
    variables.push_back({(uintptr_t)arena, (uintptr_t)arena + l.dynamic, "of dynamic size"});
    memset(arena, 0xff, l.dynamic);
  }
  for (Warp &w : warps) w.epoch = epoch_of_block, w.waiting = 0;
  for (unsigned t = 0; t < block_size; t++) fibers[t].state = Fresh, fibers[t].groups = 0, fibers[t].copies.clear();
  for (Warp &w : warps) w.alive = w.count == MOST_LANES ? ~(Lanes)0 : ((Lanes)1 << w.count) - 1;
  alive = block_size, at_barrier = 0, barrier_votes = 0;
  while (alive && !failed) {
    for (Warp &w : warps) {
      run_warp(w);
      if (failed) return;
    }
    if (!alive) return;
    if (at_barrier != block_size) return stuck();
    const Call &first = fibers[0].call;
    for (unsigned t = 1; t < block_size; t++) {
      const Call &c = fibers[t].call;
      if (same_place(c, first)) continue;
      current = &fibers[t];
      threadIdx = fibers[t].at;
      explain("divergence: it waits in %s of line %d, and thread 0 in %s of line %d", c.what, c.line, first.what, first.line);
      return;
    }
    at_barrier = 0, barrier_result = barrier_votes, barrier_votes = 0;
    epoch_of_barrier = next_epoch();
    for (Warp &w : warps) w.epoch = epoch_of_barrier;
    for (unsigned t = 0; t < block_size; t++) fibers[t].state = Ready;
  }
}

bool shape_fits(const Launch &l) {
  uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
  const Chip &c = *l.chip;
  const char *zero = !l.grid.x || !l.grid.y || !l.grid.z ? "grid" : threads ? nullptr : "block";
  if (zero) explain("the %s of the launch is empty", zero);
  else if (threads > c.threads) explain("%llu threads a block, and %s has at most %u", (unsigned long long)threads, c.name, c.threads);
  else if (l.grid.x > 0x7fffffffu || l.grid.y > 65535 || l.grid.z > 65535)
    explain("a grid of %u x %u x %u leaves 2147483647 x 65535 x 65535", l.grid.x, l.grid.y, l.grid.z);
  else if (l.dynamic > c.shared)
    explain("%zu bytes of shared memory a block, and %s has %u", l.dynamic, c.name, c.shared);
  else if (l.dynamic > c.shared_free && l.dynamic > l.dynamic_allowed)
    explain("%zu bytes of dynamic shared memory, and more than %u must be asked for with FuncSetAttribute", l.dynamic, c.shared_free);
  return !failed;
}

void wild(int number, siginfo_t *info, void *) {
  char line[512];
  const char *name = kernel_now ? kernel_now->name : launch_now ? launch_now->kernel : nullptr;
  const char *what = number == SIGALRM ? "did not end in time" : number == SIGFPE ? "divided by zero or overflowed in a division" :
                     number == SIGILL ? "reached a place that is never reached" : "touched memory outside its own, or overflowed its stack";
  int n = launch_now ? snprintf(line, sizeof line, "kernel %s %s (address %p, thread %u of block %u,%u,%u)\n", name, what, info->si_addr,
                                current ? current->thread : 0, blockIdx.x, blockIdx.y, blockIdx.z)
                     : snprintf(line, sizeof line, "the host program %s (address %p)\n", what, info->si_addr);
  if (n > 0 && write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0) {}
  signal(SIGABRT, SIG_DFL);
  abort();
}

struct Signals {
  Signals() {
    static char own[64 << 10];
    stack_t s = {};
    s.ss_sp = own, s.ss_size = sizeof own;
    sigaltstack(&s, nullptr);
    struct sigaction a = {};
    a.sa_sigaction = wild;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int n : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) sigaction(n, &a, nullptr);
  }
} signals;

} // namespace

int run(const Launch &l) {
  static const char *limit = getenv("SIMT_SECONDS");
  static const unsigned seconds = limit ? (unsigned)atoi(limit) : 0;
  prepare();
  failed = false;
  text[0] = 0;
  launch_now = &l, kernel_now = nullptr, current = nullptr;
  host_stack = (uintptr_t)__builtin_frame_address(0);
  const bool fits = shape_fits(l);
  if (fits) {
    const unsigned lanes = l.chip->lanes;
    block_size = l.block.x * l.block.y * l.block.z;
    blockDim = l.block, gridDim = l.grid;
    fibers.resize(block_size);
    warps.resize((block_size + lanes - 1) / lanes);
    for (unsigned t = 0; t < block_size; t++) {
      Fiber &f = fibers[t];
      f.at = {t % l.block.x, t / l.block.x % l.block.y, t / (l.block.x * l.block.y)};
      f.thread = t, f.lane = t % lanes, f.warp = t / lanes, f.stack = -1;
    }
    for (unsigned w = 0; w < warps.size(); w++)
      warps[w].first = w * lanes, warps[w].count = block_size - w * lanes < lanes ? block_size - w * lanes : lanes;
    epoch_of_launch = next_epoch();
    memset(arena_owner, 0, DYNAMIC / SHARED_UNIT * sizeof *arena_owner);
    for (size_t i = 0; i < (l.dynamic + SHARED_UNIT - 1) / SHARED_UNIT; i++) arena_owner[i] = 1;
    if (seconds) alarm(seconds);
    for (unsigned z = 0; z < l.grid.z && !failed; z++)
      for (unsigned y = 0; y < l.grid.y && !failed; y++)
        for (unsigned x = 0; x < l.grid.x && !failed; x++) run_block({x, y, z});
    if (seconds) alarm(0);
    for (Fiber &f : fibers) {
      if (f.stack >= 0) free_stacks.push_back(f.stack);
      f.stack = -1;
    }
  }
  launch_now = nullptr, kernel_now = nullptr, current = nullptr;
  return failed ? (fits ? 1 : 2) : 0;
}

const char *report() { return text; }

void fault(const char *format, ...) {
  va_list list;
  va_start(list, format);
  // A fault within a meeting is one of all its lanes, and the machine is not on a lane's stack then.
  bool on_lane = exempt_bytes != UINTPTR_MAX;
  if (!failed) describe(format, list);
  va_end(list);
  failed = true;
  if (on_lane) leave();
  fprintf(stderr, "%s\n", text);
  abort();
}

void enter(const Kernel *k, unsigned bound) {
  if (current->thread) return;
  kernel_now = k;
  const Chip &c = *launch_now->chip;
  if (bound && block_size > bound) fault("%u threads a block, and its __launch_bounds__ allow %u", block_size, bound);
  if (!bound && block_size > c.default_bound)
    fault("%u threads a block, and a kernel without __launch_bounds__ has at most %u on %s", block_size, c.default_bound, c.name);
}

void place(Variable &v) {
  size_t at = (arena_used + v.align - 1) / v.align * v.align;
  at = (at + SHARED_UNIT - 1) / SHARED_UNIT * SHARED_UNIT;
  const Chip &c = *launch_now->chip;
  shared_bytes = (shared_bytes + v.align - 1) / v.align * v.align + v.bytes;
  if (shared_bytes > c.shared)
    fault("%zu bytes of shared memory a block with variable %s, and %s has %u", shared_bytes, v.name, c.name, c.shared);
  if (shared_bytes - launch_now->dynamic > c.shared_free)
    fault("%zu bytes of static shared memory with variable %s, and %s has %u that need not be asked for", shared_bytes, v.name, c.name,
          c.shared_free);
  v.block = block_number;
  v.at = arena + DYNAMIC + at;
  memset(v.at, 0xff, v.bytes);
  variables.push_back({(uintptr_t)v.at, (uintptr_t)v.at + v.bytes, v.name});
  uint16_t number = (uint16_t)(variables.size() - 1);
  for (size_t i = at; i < at + v.bytes; i += SHARED_UNIT) arena_owner[(DYNAMIC + i) / SHARED_UNIT] = number;
  // A gap, so that what runs off an end is found.
  arena_used = at + v.bytes + 4 * SHARED_UNIT;
}

void *dynamic() {
  prepare();
  return arena;
}

void Team::refuse(unsigned lane, const char *format, ...) {
  if (failed) return;
  for (Fiber &f : fibers)
    if (&f.call == call[lane]) current = &f;
  va_list list;
  va_start(list, format);
  describe(format, list);
  va_end(list);
  failed = true;
}

void meet(Who who, Lanes mask, const Call &call, void *out) {
  Fiber &f = *current;
  Warp &w = warps[f.warp];
  if (who == Named && !(mask >> f.lane & 1)) fault("calls %s of line %d, whose mask does not name it", call.what, call.line);
  f.who = who, f.mask = mask, f.call = call, f.out = out;
  if (call.bytes) {
    memcpy(f.in, call.in, call.bytes);
    f.call.in = f.in;
  }
  f.state = Meeting;
  w.waiting++;
  stop();
}

void block_barrier(const char *file, int line) {
  current->call = {nullptr, "__syncthreads", file, line, 0, nullptr, 0};
  current->state = AtBarrier;
  at_barrier++;
  stop();
}

int block_count(int predicate, const char *file, int line) {
  barrier_votes += predicate != 0;
  block_barrier(file, line);
  return barrier_result;
}

void warp_barrier(Lanes mask, const char *file, int line) { meet(Named, mask, {nullptr, "__syncwarp", file, line, 0, nullptr, 0}, nullptr); }

unsigned lane() { return current->lane; }
Lanes lanes_alive() { return warps[current->warp].alive; }
unsigned thread() { return current->thread; }
const Chip &chip() { return *launch_now->chip; }

void touch(const void *at, size_t bytes, int access) { check(at, bytes, access, (uintptr_t)__builtin_return_address(0)); }

// ---- asynchronous copies

void copy_later(void *to, const void *from, size_t bytes, size_t zeros) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fault("an asynchronous copy of %zu bytes: 4, 8 and 16 are possible", bytes);
  if (zeros > bytes) fault("an asynchronous copy of %zu bytes with %zu zeros", bytes, zeros);
  if ((uintptr_t)to % bytes || (uintptr_t)from % bytes) fault("an asynchronous copy of %zu bytes between %p and %p, which are no multiples of it", bytes, from, to);
  if ((uintptr_t)to - (uintptr_t)arena >= SHARED) fault("an asynchronous copy to %p, which is not shared memory", to);
  current->copies.push_back({to, from, bytes, zeros, current->groups});
}

void copy_commit() { current->groups++; }

void copy_wait(size_t groups) {
  auto &all = current->copies;
  uint64_t before = current->groups > groups ? current->groups - groups : 0;
  size_t done = 0;
  for (; done < all.size() && all[done].group < before; done++) {
    const Fiber::Copy &c = all[done];
    if (c.bytes > c.zeros) touch(c.from, c.bytes - c.zeros, Read);
    touch(c.to, c.bytes, Write);
    memcpy(c.to, c.from, c.bytes - c.zeros);
    memset((char *)c.to + (c.bytes - c.zeros), 0, c.zeros);
  }
  all.erase(all.begin(), all.begin() + (ptrdiff_t)done);
}

// ---- the device's memory

static unsigned log_of(size_t bytes) { return bytes <= 1 ? 0 : 64 - __builtin_clzll(bytes - 1); }

void *take(size_t bytes) {
  prepare();
  // Beside each block lies a unit that belongs to nobody.
  size_t room = (bytes + UNIT - 1) / UNIT * UNIT + UNIT;
  if (bytes > DEVICE_BYTES - heap_taken) return nullptr;
  unsigned l = log_of(room);
  uintptr_t from = 0;
  uint32_t number = 0;
  for (size_t i = 0; i < spare[l].size() && !number; i++) {
    Block &b = blocks[spare[l][i]];
    if (b.to - b.from < bytes) continue;
    number = spare[l][i], from = b.from;
    spare[l].erase(spare[l].begin() + (ptrdiff_t)i);
  }
  if (!number) {
    Chunk *c = nullptr;
    for (Chunk &k : chunks)
      if (!c && k.bytes - k.used >= room) c = &k;
    if (!c) {
      // A unit that belongs to nobody comes first.
      const size_t size = room + UNIT > CHUNK ? (room + UNIT + PAGE - 1) / PAGE * PAGE : CHUNK;
      void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (at == MAP_FAILED) return nullptr;
      chunks.push_back({(uintptr_t)at, size, UNIT, std::vector<uint32_t>(size / UNIT), std::vector<uint64_t *>(size / PAGE)});
      chunk_now = nullptr;
      c = &chunks.back();
    }
    from = c->from + c->used;
    number = (uint32_t)blocks.size();
    blocks.push_back({from, from + bytes, true});
    for (size_t i = 0; i < room; i += UNIT) c->owner[(c->used + i) / UNIT] = number;
    c->used += room;
  }
  blocks[number].to = from + bytes, blocks[number].live = true;
  memset((void *)from, 0xff, bytes);
  heap_taken += bytes;
  return (void *)from;
}

bool give(void *at) {
  const Chunk *c = chunk_of((uintptr_t)at);
  if (!c) return false;
  const uint32_t number = c->owner[((uintptr_t)at - c->from) / UNIT];
  Block &b = blocks[number];
  if (!number || b.from != (uintptr_t)at || !b.live) return false;
  b.live = false;
  heap_taken -= b.to - b.from;
  spare[log_of((b.to - b.from + UNIT - 1) / UNIT * UNIT + UNIT)].push_back(number);
  return true;
}

Side side(const void *at, size_t bytes) {
  const Chunk *c = chunk_of((uintptr_t)at);
  if (!c) return Host;
  const Block &b = blocks[c->owner[((uintptr_t)at - c->from) / UNIT]];
  return b.live && (uintptr_t)at >= b.from && bytes <= b.to - (uintptr_t)at ? Device : Outside;
}

void memory(size_t *free, size_t *total) {
  *total = DEVICE_BYTES;
  *free = *total - heap_taken;
}

void complain(const char *what) { snprintf(text, sizeof text, "%s", what); }

} // namespace simt

#include "hooks.h"
