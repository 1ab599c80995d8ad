/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * One pool of threads for the process, shared by all bundles.
 *
 * Every libmodel.so has its own copy of this code, so the pool is found through a symbol that the dynamic linker makes unique
 * in the process (STB_GNU_UNIQUE; it also keeps the one library that defines it from being unmapped). Its name carries the
 * version of the structs below: bundles of another version have another pool.
 *
 * A launch is cut into slices of consecutive groups, the same number for each thread. A thread takes the slices of its own
 * place first (the same data as in the launch before), then what others have not begun. So nobody ever waits for a thread
 * that the system has not woken, and the caller alone would finish too. A second run that comes while the pool is taken does
 * its launch alone; there is no queue and nothing to deadlock on.
 *
 * A launch in steps is one job: the slices of a step are taken like those of a launch, and whoever finds none left waits for
 * the end of the step. So a thread has the same slices in every step, and a step costs a few cache misses instead of a call.
 */
#include "rt.h"

#define COUNT 0xffffu       /* pool->state: workers inside the job */
#define OPEN 0x80000000u    /* workers may enter */
#define WAITING 0x40000000u /* the owner sleeps until the count is 0 */

typedef struct {
  _Alignas(64) _Atomic int64_t next; /* slice to take */
  int64_t end;
  _Atomic uint32_t taken;            /* a thread works from this place */
  pw_guard_state guard;
} place;

typedef struct {
  _Alignas(64) _Atomic uint32_t owner; /* a run has the pool: 0, 1 */
  _Atomic uint32_t running;            /* runs under way */
  _Atomic uint32_t models;
  _Atomic uint32_t lock;               /* guards workers, handles and the two below: 0 free, 1 held, 2 with sleepers */
  _Atomic uint32_t workers;
  _Atomic uint32_t stop;
  _Atomic uint32_t no_more;            /* the system gave no further thread */
  _Alignas(64) _Atomic uint32_t state;
  _Alignas(64) _Atomic uint32_t sequence; /* counts jobs; workers sleep on it */
  _Atomic uint32_t sleepers;
  _Alignas(64) _Atomic int64_t done;    /* slices of all steps that have ended */
  _Alignas(64) _Atomic uint32_t ended;  /* steps that have ended; threads without a slice wait for it */
  _Atomic uint32_t resting;             /* threads that sleep on it */
  _Alignas(64) pw_job job;
  _Atomic int32_t cpus;
  uintptr_t handle[PW_MAX_THREADS];
  place places[PW_MAX_THREADS];
} pool;

/* The two words that all bundles of the process share: the pool, and the code that its threads run. The library that they
 * come from is never unmapped, so neither is that code, whichever bundle starts a thread. */
__asm__(
    ".pushsection .data.pw_rt_pool_v2,\"aw\",@progbits\n"
    ".type pw_rt_pool_v2,@gnu_unique_object\n"
    ".size pw_rt_pool_v2,16\n"
    ".balign 16\n"
    "pw_rt_pool_v2:\n"
    ".quad 0\n"
    ".quad pw_pool_worker\n"
    ".popsection\n");
typedef struct {
  _Atomic(pool *) pool;
  void *(*worker)(void *);
} shared;
extern shared pw_rt_pool_v2 __attribute__((visibility("default")));
void *pw_pool_worker(void *argument) __attribute__((used));

static pool *get(void) {
  pool *p = __c11_atomic_load(&pw_rt_pool_v2.pool, __ATOMIC_ACQUIRE);
  if (p) return p;
  pool *fresh = pw_os_map(sizeof *fresh), *none = 0;
  if (!fresh) return 0;
  pw_os_wipe_on_fork(fresh, sizeof *fresh);
  if (__c11_atomic_compare_exchange_strong(&pw_rt_pool_v2.pool, &none, fresh, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return fresh;
  pw_os_unmap(fresh, sizeof *fresh);
  return none;
}

static void lock(_Atomic uint32_t *l) {
  uint32_t seen = 0;
  if (__c11_atomic_compare_exchange_strong(l, &seen, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
  while (__c11_atomic_exchange(l, 2, __ATOMIC_ACQUIRE) != 0) pw_os_wait(l, 2);
}

static void unlock(_Atomic uint32_t *l) {
  if (__c11_atomic_exchange(l, 0, __ATOMIC_RELEASE) == 2) pw_os_wake(l, 1);
}

void pw_guard_merge(pw_guard_state *a, const pw_guard_state *b) {
  if (!b->code) return;
  int less = b->at != a->at ? b->at < a->at : b->code != a->code ? b->code < a->code : b->value < a->value;
  if (!a->code || less) *a = *b;
}

void pw_rt_guard(void *status, int32_t code, int64_t at, int64_t value) {
  pw_guard_state failure = {at, value, code};
  pw_guard_merge(status, &failure);
}

/* How long to spin before sleeping: some tens of microseconds when every thread can have a CPU, else hardly at all. */
static int patience(pool *p) {
  uint32_t wanted = __c11_atomic_load(&p->workers, __ATOMIC_RELAXED) + __c11_atomic_load(&p->running, __ATOMIC_RELAXED);
  return wanted <= (uint32_t)__c11_atomic_load(&p->cpus, __ATOMIC_RELAXED) ? 2000 : 20;
}

/* Waits until that step has ended. */
static void rest_until(pool *p, uint32_t step) {
  for (int i = patience(p); i > 0; i--) {
    if (__c11_atomic_load(&p->ended, __ATOMIC_ACQUIRE) != step) return;
    pw_os_pause();
  }
  __c11_atomic_fetch_add(&p->resting, 1, __ATOMIC_SEQ_CST);
  while (__c11_atomic_load(&p->ended, __ATOMIC_SEQ_CST) == step) pw_os_wait(&p->ended, step);
  __c11_atomic_fetch_sub(&p->resting, 1, __ATOMIC_SEQ_CST);
}

/* First group of slice `s`: floor(groups * s / slices), so that any run of slices has its share of groups but for one. */
static int64_t first_of(int64_t groups, int64_t s, int64_t slices) { return groups / slices * s + groups % slices * s / slices; }

/* As work, of a job in steps. A place counts its slices over all steps, so nothing is set back between them. */
static void work_in_steps(pool *p, int32_t self) {
  const pw_job *j = &p->job;
  int64_t slices = (int64_t)j->threads * j->slices;
  uint8_t *scratch = j->scratch + j->stride * self;
  pw_guard_state *guard = &p->places[self].guard;
  int64_t step;
  while ((step = __c11_atomic_load(&p->ended, __ATOMIC_ACQUIRE)) < j->steps) {
    int64_t mine = 0, end_of_step = (step + 1) * j->slices;
    for (int32_t k = 0; k < j->threads; k++) {
      int32_t i = self + k < j->threads ? self + k : self + k - j->threads;
      place *from = &p->places[i];
      int64_t taken = __c11_atomic_load(&from->next, __ATOMIC_RELAXED);
      while (taken < end_of_step) {
        if (!__c11_atomic_compare_exchange_weak(&from->next, &taken, taken + 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
        int64_t s = (int64_t)i * j->slices + taken - step * j->slices;
        int64_t begin = step * j->groups + first_of(j->groups, s, slices), end = step * j->groups + first_of(j->groups, s + 1, slices);
        if (!__c11_atomic_load(j->cancelled, __ATOMIC_RELAXED))
          j->kernel(j->bufs, j->syms, j->grid, begin, end, scratch, guard);
        taken++, mine++;
      }
    }
    if (mine && __c11_atomic_fetch_add(&p->done, mine, __ATOMIC_ACQ_REL) + mine == (step + 1) * slices) {
      __c11_atomic_store(&p->ended, (uint32_t)step + 1, __ATOMIC_SEQ_CST);
      if (__c11_atomic_load(&p->resting, __ATOMIC_SEQ_CST)) pw_os_wake(&p->ended, PW_MAX_THREADS);
    } else {
      rest_until(p, (uint32_t)step);
    }
  }
}

/* Works from place `self`: its own slices, then those of the others. */
static void work(pool *p, int32_t self) {
  const pw_job *j = &p->job;
  if (j->steps > 1) {
    work_in_steps(p, self);
    return;
  }
  int64_t slices = (int64_t)j->threads * j->slices;
  uint8_t *scratch = j->scratch + j->stride * self;
  pw_guard_state *guard = &p->places[self].guard;
  for (int32_t k = 0; k < j->threads; k++) {
    place *from = &p->places[self + k < j->threads ? self + k : self + k - j->threads];
    while (__c11_atomic_load(&from->next, __ATOMIC_RELAXED) < from->end) {
      int64_t s = __c11_atomic_fetch_add(&from->next, 1, __ATOMIC_RELAXED);
      if (s >= from->end) break;
      if (__c11_atomic_load(j->cancelled, __ATOMIC_RELAXED)) continue;
      j->kernel(j->bufs, j->syms, j->grid, first_of(j->groups, s, slices), first_of(j->groups, s + 1, slices), scratch, guard);
    }
  }
}

/* One job, if it is still open: count in, find a place, work, count out. */
static void take_part(pool *p, int32_t wish) {
  uint32_t s = __c11_atomic_load(&p->state, __ATOMIC_RELAXED);
  do {
    if (!(s & OPEN)) return;
  } while (!__c11_atomic_compare_exchange_weak(&p->state, &s, s + 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
  int32_t threads = p->job.threads;
  for (int32_t k = 0; k < threads; k++) {
    int32_t i = (wish + k) % threads;
    uint32_t none = 0;
    if (i && __c11_atomic_compare_exchange_strong(&p->places[i].taken, &none, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      work(p, i);
      break;
    }
  }
  s = __c11_atomic_fetch_sub(&p->state, 1, __ATOMIC_RELEASE);
  if ((s & COUNT) == 1 && (s & WAITING)) pw_os_wake(&p->state, 1);
}

void *pw_pool_worker(void *argument) {
  uintptr_t number = (uintptr_t)argument;
  pool *p = get();
  pw_os_fp_set();
  for (;;) {
    uint32_t seen = __c11_atomic_load(&p->sequence, __ATOMIC_SEQ_CST);
    if (__c11_atomic_load(&p->stop, __ATOMIC_ACQUIRE)) return 0;
    take_part(p, (int32_t)number + 1);
    for (int i = patience(p); i > 0 && __c11_atomic_load(&p->sequence, __ATOMIC_RELAXED) == seen; i--) pw_os_pause();
    if (__c11_atomic_load(&p->sequence, __ATOMIC_SEQ_CST) == seen) {
      __c11_atomic_fetch_add(&p->sleepers, 1, __ATOMIC_SEQ_CST);
      while (__c11_atomic_load(&p->sequence, __ATOMIC_SEQ_CST) == seen) pw_os_wait(&p->sequence, seen);
      __c11_atomic_fetch_sub(&p->sleepers, 1, __ATOMIC_SEQ_CST);
    }
  }
}

/* Wakes up to `count` workers for what was published before. */
static void call(pool *p, int32_t count) {
  __c11_atomic_fetch_add(&p->sequence, 1, __ATOMIC_SEQ_CST);
  if (__c11_atomic_load(&p->sleepers, __ATOMIC_SEQ_CST)) pw_os_wake(&p->sequence, count);
}

static void grow(pool *p, uint32_t wanted) {
  lock(&p->lock);
  while (p->workers < wanted && !p->no_more) {
    if (pw_os_thread(&p->handle[p->workers], pw_rt_pool_v2.worker, (void *)(uintptr_t)p->workers)) p->no_more = 1;
    else p->workers++;
  }
  unlock(&p->lock);
}

int pw_pool_run(const pw_job *job, int32_t cpus, pw_guard_state *guard) {
  pool *p = get();
  uint32_t none = 0;
  if (!p || !__c11_atomic_compare_exchange_strong(&p->owner, &none, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return 0;
  pw_job j = *job;
  int32_t helpers = (j.threads < cpus ? j.threads : cpus) - 1;
  p->cpus = cpus;
  if ((int32_t)__c11_atomic_load(&p->workers, __ATOMIC_RELAXED) < helpers && !__c11_atomic_load(&p->no_more, __ATOMIC_RELAXED))
    grow(p, (uint32_t)helpers);
  p->job = j;
  for (int32_t i = 0; i < j.threads; i++) {
    place *q = &p->places[i];
    __c11_atomic_store(&q->next, j.steps > 1 ? 0 : (int64_t)i * j.slices, __ATOMIC_RELAXED);
    q->end = (int64_t)(i + 1) * j.slices;
    __c11_atomic_store(&q->taken, i == 0, __ATOMIC_RELAXED);
    q->guard.code = 0;
  }
  __c11_atomic_store(&p->done, 0, __ATOMIC_RELAXED);
  __c11_atomic_store(&p->ended, 0, __ATOMIC_RELAXED);
  __c11_atomic_store(&p->state, OPEN, __ATOMIC_RELEASE);
  if (helpers > 0) call(p, helpers);
  work(p, 0);

  /* Every slice is taken. Those who work on one are inside; nobody else gets in. */
  uint32_t s = __c11_atomic_fetch_and(&p->state, ~OPEN, __ATOMIC_ACQUIRE) & ~OPEN;
  for (int i = patience(p); i > 0 && (s & COUNT); i--) {
    pw_os_pause();
    s = __c11_atomic_load(&p->state, __ATOMIC_ACQUIRE);
  }
  while (s & COUNT) {
    if (s & WAITING || __c11_atomic_compare_exchange_strong(&p->state, &s, s | WAITING, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
      pw_os_wait(&p->state, s | WAITING);
    s = __c11_atomic_load(&p->state, __ATOMIC_ACQUIRE);
  }
  for (int32_t i = 0; i < j.threads; i++) pw_guard_merge(guard, &p->places[i].guard);
  __c11_atomic_store(&p->owner, 0, __ATOMIC_RELEASE);
  return 1;
}

void pw_pool_enter(void) {
  pool *p = get();
  if (p) __c11_atomic_fetch_add(&p->running, 1, __ATOMIC_RELAXED);
}

void pw_pool_leave(void) {
  pool *p = get();
  uint32_t n = p ? __c11_atomic_load(&p->running, __ATOMIC_RELAXED) : 0;
  /* A forked child starts at zero. */
  while (n && !__c11_atomic_compare_exchange_weak(&p->running, &n, n - 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

void pw_pool_retain(void) {
  pool *p = get();
  if (!p) return;
  lock(&p->lock);
  p->models++;
  unlock(&p->lock);
}

void pw_pool_release(void) {
  pool *p = get();
  if (!p) return;
  lock(&p->lock);
  /* The last model takes the threads along; a later one makes new ones. */
  if (p->models && --p->models == 0 && p->workers) {
    p->stop = 1;
    call(p, PW_MAX_THREADS);
    for (uint32_t i = 0; i < p->workers; i++) pw_os_join(p->handle[i]);
    p->workers = 0;
    p->no_more = 0;
    p->stop = 0;
  }
  unlock(&p->lock);
}
