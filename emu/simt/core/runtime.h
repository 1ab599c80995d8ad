// SPDX-License-Identifier: Apache-2.0 OR MIT
// What kernels that run on a CPU ask of the machine beneath them (runtime.cpp). One process has one device and runs one lane at a time,
// so results, schedules and reports are the same in every run.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

namespace simt {

typedef unsigned __int128 Lanes; // a set of lanes of one warp

// What a chip allows. Sizes in bytes.
struct Chip {
  const char *name;
  unsigned lanes;          // of a warp
  unsigned threads;        // of a block at most
  unsigned shared;         // of a block at most, static and dynamic
  unsigned shared_free;    // of a block without asking for more by an attribute
  unsigned default_bound;  // threads of a block of a kernel without __launch_bounds__
  bool warp_barrier_orders; // whether __syncwarp makes writes of the warp's lanes visible to each other
};

struct Launch {
  const Chip *chip;
  const char *kernel;
  dim3 grid, block;
  size_t dynamic;
  size_t dynamic_allowed; // of FuncSetAttribute, 0 = never asked
  void (*body)(const void *);
  const void *context;
};
// Runs a launch to its end. 0 = done, 1 = it failed, 2 = it cannot be launched so: `report()` says why.
int run(const Launch &);

// The text of the last fault, empty if there was none.
const char *report();

// Ends the launch of the calling lane with a report. `format` is printf's.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fault(const char *format, ...);

// Called at the start of a kernel's body: its name, the nodes that it computes, its launch bound (0 = none).
struct Kernel { const char *name, *nodes; };
void enter(const Kernel *, unsigned bound);

// ---- the block's memory
struct Variable {
  const char *name;
  size_t bytes, align;
  uint64_t block = 0; // the block that it was placed for
  void *at = nullptr;
  constexpr Variable(const char *name, size_t bytes, size_t align) : name(name), bytes(bytes), align(align) {}
};
extern uint64_t block_number; // counts blocks over all launches
void place(Variable &);
void *dynamic();

// ---- lanes that meet
struct Team;
typedef void (*Operation)(Team &);
struct Call {
  Operation operation;
  const char *what;  // the call's name, for reports
  const char *file;
  int line;
  int argument;
  const void *in;    // what this lane gives
  unsigned bytes;
};
// Lanes of a warp that have met: what each one gave, and a place for what it gets.
struct Team {
  Lanes who;
  unsigned lanes;
  const Call *call[128];
  void *out[128];
  bool has(unsigned lane) const { return who >> lane & 1; }
  // Says what is wrong with what a lane gave; the launch ends.
  __attribute__((format(printf, 3, 4))) void refuse(unsigned lane, const char *format, ...);
};
enum Who {
  Named,    // lanes of `mask` that have not ended
  Together, // lanes that stand here when all the warp's lanes have stopped
};
void meet(Who who, Lanes mask, const Call &call, void *out);
void block_barrier(const char *file, int line);
void warp_barrier(Lanes mask, const char *file, int line);
unsigned lane();
Lanes lanes_alive(); // of the running lane's warp
unsigned thread();
const Chip &chip();

// Counts all lanes of the block for which `predicate` holds, at a barrier.
int block_count(int predicate, const char *file, int line);

// An access to memory by a function of the machine itself, such as an atomic one.
enum Access { Read = 0, Write = 1, Atomic = 3 };
void touch(const void *at, size_t bytes, int access);

// ---- asynchronous copies to the block's memory: done when they are waited for; the last `zeros` of the bytes are zeros
void copy_later(void *to, const void *from, size_t bytes, size_t zeros);
void copy_commit();
void copy_wait(size_t groups);

// ---- the device's memory; addresses are of this process
void *take(size_t bytes); // null = no room
bool give(void *at);      // whether it was the start of an allocation
enum Side { Host, Device, Outside }; // Outside: in the device's range, but not wholly in one allocation
Side side(const void *at, size_t bytes);
void memory(size_t *free, size_t *total);
// Tells the machine what host code says of its own error.
void complain(const char *text);
}
