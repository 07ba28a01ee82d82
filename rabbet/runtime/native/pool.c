/* The thread pool: one job at a time, any number of threads may join it, none has to.
 *
 * A job's tasks are cut into one contiguous run per thread and a run into pieces; a thread that has
 * finished its own run takes pieces of the others. Towards the end of a run pieces become smaller, each
 * half of what is left: so few are taken, and yet threads that began late or were slow end together with the
 * others. Joining is a choice of the worker: the caller closes the job when no piece is left and waits only
 * for workers that did join. So a parked, late or dead worker costs nothing, and a caller that finds the
 * pool busy (or the machine without threads) works alone.
 */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE

#include "internal.h"

#include <time.h>

enum {
    LARGE_PIECES = 4, /* a run's first pieces are at most this part of it */
    MOST_HALVINGS = 4 /* the last half of a run of 64 tasks: pieces of 16, 8, 4, 2, 2 */
};

/* In scalar operations, of which a core does 1 to 16 in a nanosecond, or a hundred as vectors. */
static const int64_t cost_per_piece = (int64_t)1 << 21; /* 0.1-2 ms, 10 us of a product */
static const int64_t least_cost = (int64_t)1 << 13;     /* taking a piece costs a tenth of a microsecond */
static const int64_t cost_per_clock = (int64_t)1 << 18; /* reading the clock is 25 ns: not at every call */
static const int64_t cost_of_call = 1000;               /* counted on top, for costs that are too small */

/* What one thread of a job works on. Others read `next` when they help. */
typedef struct slot {
    _Alignas(RB_LINE) atomic_int_fast64_t next; /* piece */
    int64_t pieces, begin, tasks;
    int64_t equal, equal_tasks;      /* so many pieces of so many tasks; each of the rest is half of what is left */
    int64_t status[RB_STATUS_WORDS]; /* its first failure: the one with the smallest element */
} slot;

typedef struct job {
    _Alignas(RB_LINE) rb_work work;
    slot *slots;
    int64_t task_cost;
    int threads;
} job;

int64_t rb_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool rb_poll(rb_poller *poller, int64_t cost) {
    if (!poller || poller->stopped)
        return poller != NULL;
    poller->done += (cost < cost_per_clock ? cost : cost_per_clock) + cost_of_call;
    if (poller->done < cost_per_clock)
        return false;
    poller->done = 0;
    if (rb_clock_ns() < poller->next_ns)
        return false;
    rb_float_leave(poller->caller_state);
    poller->stopped = poller->poll(poller->context) != 0;
    (void)rb_float_enter();
    if (rb_pool_generation() != poller->generation)
        poller->stopped = true; /* the process forked in there; this is the child, without its workers */
    poller->next_ns = rb_clock_ns() + RB_POLL_NS;
    return poller->stopped;
}

static void keep_failure(int64_t best[RB_STATUS_WORDS], const int64_t status[RB_STATUS_WORDS]) {
    if (status[0] == 0 || (best[0] != 0 && best[2] <= status[2]))
        return;
    for (int i = 0; i < RB_STATUS_WORDS; i++)
        best[i] = status[i];
}

/* Where piece `number` of a run begins, counted from the run's first task. */
static int64_t piece_begin(const slot *run, int64_t number) {
    if (number <= run->equal)
        return number * run->equal_tasks;
    int64_t rest = run->tasks - run->equal * run->equal_tasks;
    return number >= run->pieces ? run->tasks : run->tasks - (rest >> (number - run->equal));
}

static int64_t run_piece(const job *the_job, const slot *run, int64_t number, int thread) {
    const rb_work *work = &the_job->work;
    int64_t begin = piece_begin(run, number), end = piece_begin(run, number + 1);
    int64_t status[RB_STATUS_WORDS] = {0, work->call, 0, 0, 0};
    uint8_t *scratch = work->scratch + (size_t)thread * work->scratch_stride;
    work->kernel(work->buffers, work->sizes, run->begin + begin, run->begin + end, scratch, status);
    keep_failure(the_job->slots[thread].status, status);
    return (end - begin) * the_job->task_cost;
}

/* The number of a run's next piece, or -1. A run that is done is only looked at: its memory stays with its owner. */
static int64_t take_piece(slot *run) {
    if (atomic_load_explicit(&run->next, memory_order_relaxed) >= run->pieces)
        return -1;
    int64_t number = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
    return number < run->pieces ? number : -1;
}

/* One thread's part in a job: its own run, then the others'. False: the poller stopped it. */
static bool run_pieces(const job *the_job, int thread, rb_poller *poller) {
    for (int i = 0; i < the_job->threads; i++) {
        slot *run = &the_job->slots[(thread + i) % the_job->threads];
        for (int64_t number; (number = take_piece(run)) >= 0;) {
            int64_t cost = run_piece(the_job, run, number, thread);
            if (poller && rb_poll(poller, cost))
                return false;
        }
    }
    return true;
}

/* Cuts a run of `tasks` tasks, which cost so much together, into pieces. */
static void cut(slot *run, int64_t tasks, int64_t cost, int threads) {
    int64_t size = tasks / (cost / cost_per_piece + 1), quarter = (tasks + LARGE_PIECES - 1) / LARGE_PIECES;
    if (threads > 1 && size > quarter)
        size = quarter;
    run->equal_tasks = size > 1 ? size : 1;
    run->equal = (tasks - 1) / run->equal_tasks; /* one to so many tasks are left */
    run->pieces = run->equal + 1;
    if (threads == 1)
        return;
    run->equal -= run->equal > 0; /* together with those before them */
    int64_t rest = tasks - run->equal * run->equal_tasks, halvings = 0;
    while (halvings < MOST_HALVINGS && rest >> (halvings + 1) > 0 &&
           rest * (cost / tasks) >> (halvings + 1) >= least_cost)
        halvings++;
    run->pieces = run->equal + halvings + 1;
}

static void fill_slots(const job *the_job) {
    const rb_work *work = &the_job->work;
    int64_t size = work->tasks / the_job->threads, larger = work->tasks % the_job->threads;
    int64_t begin = 0;
    for (int i = 0; i < the_job->threads; i++) {
        slot *mine = &the_job->slots[i];
        int64_t tasks = size + (i < larger ? 1 : 0);
        if (i == 0 || i == larger) { /* others are like those before them */
            cut(mine, tasks, work->cost / work->tasks * tasks, the_job->threads);
        } else {
            mine->pieces = mine[-1].pieces;
            mine->equal = mine[-1].equal;
            mine->equal_tasks = mine[-1].equal_tasks;
        }
        mine->begin = begin;
        mine->tasks = tasks;
        begin += tasks;
        atomic_store_explicit(&mine->next, 0, memory_order_relaxed);
        for (int k = 0; k < 4; k++)
            mine->status[k] = 0;
    }
}

static void merge_failures(const job *the_job, int64_t status[RB_STATUS_WORDS]) {
    for (int i = 0; i < the_job->threads; i++)
        keep_failure(status, the_job->slots[i].status);
}

static job make_job(const rb_work *work, slot *slots, int threads) {
    return (job){.work = *work, .slots = slots, .task_cost = work->cost / work->tasks, .threads = threads};
}

static bool run_alone(const rb_work *work, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    slot slots[1];
    job alone = make_job(work, slots, 1);
    fill_slots(&alone);
    bool finished = run_pieces(&alone, 0, poller);
    merge_failures(&alone, status);
    return finished;
}

#ifdef RB_NO_THREADS

int rb_num_threads(void) { return 1; }
int rb_set_num_threads(int threads) { return threads == 0 || threads == 1 ? RB_OK : RB_ARGUMENT; }
int rb_shutdown(void) { return RB_OK; }
int rb_pool_generation(void) { return 0; }
void rb_pool_after_fork(void) {}

bool rb_pool_run(const rb_work *work, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    return run_alone(work, poller, status);
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t cost_per_thread = 32768;      /* operations; less is not worth waking a thread */
static const int64_t spin_ns = 50000;            /* about what waking a parked thread costs */
static const size_t stack_bytes = (size_t)2 << 20; /* kernels keep large things in scratch */

/* The pool's state is one word, so that reading "is there a job, is it open, am I wanted" and joining it
 * are one atomic step: epoch (32 bits), threads wanted (16), open (1), workers inside (15). */
static const uint64_t open_bit = (uint64_t)1 << 15;
static const uint64_t inside_mask = ((uint64_t)1 << 15) - 1;

static uint32_t epoch_of(uint64_t state) { return (uint32_t)(state >> 32); }
static int wanted_of(uint64_t state) { return (int)(state >> 16 & 0xFFFF); }

typedef struct worker {
    _Alignas(RB_LINE) pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_bool parked;
    int number; /* 1, 2, ...: the caller of a job is 0 */
} worker;

static _Alignas(RB_LINE) atomic_uint_fast64_t pool_state;
static _Alignas(RB_LINE) atomic_bool pool_busy; /* held by who changes any of the following */
static job pool_job;
static slot pool_slots[RB_MAX_THREADS];
static worker pool_workers[RB_MAX_THREADS];
static int pool_started; /* worker threads */
static int pool_asked; /* how many threads were wanted when they were started; 0: not yet */
static atomic_bool pool_quit;
static atomic_int pool_wanted; /* as set by the user; 0: the default */
static atomic_int pool_default;
static atomic_int pool_generation;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- how many threads ----------------------------------------------------------------------------- */

/* Cores' worth of time that a container may use, or `cores` if it says nothing. */
static int quota_cores(int cores) {
#ifdef __linux__
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    long long quota = 0, period = 0;
    if (file) {
        if (fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0 &&
            (quota + period - 1) / period < cores)
            cores = (int)((quota + period - 1) / period);
        fclose(file);
    }
#endif
    return cores;
}

static int available_cores(void) {
    int cores = 0;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
#endif
    if (cores <= 0)
        cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    cores = quota_cores(cores > 0 ? cores : 1);
    return cores < RB_MAX_THREADS ? cores : RB_MAX_THREADS;
}

static int default_threads(void) {
    const char *text = getenv("RABBET_NUM_THREADS");
    if (!text || !*text)
        return available_cores();
    char *end = NULL;
    long threads = strtol(text, &end, 10);
    return *end || threads < 1 || threads > RB_MAX_THREADS ? -1 : (int)threads;
}

int rb_num_threads(void) {
    int threads = atomic_load_explicit(&pool_wanted, memory_order_relaxed);
    if (threads)
        return threads;
    threads = atomic_load_explicit(&pool_default, memory_order_relaxed);
    if (!threads) {
        threads = default_threads();
        atomic_store_explicit(&pool_default, threads, memory_order_relaxed);
    }
    return threads;
}

int rb_set_num_threads(int threads) {
    if (threads < 0 || threads > RB_MAX_THREADS)
        return RB_ARGUMENT;
    atomic_store(&pool_wanted, threads); /* takes effect at the next job */
    return RB_OK;
}

/* ---- workers -------------------------------------------------------------------------------------- */

static void park(worker *self, uint32_t seen) {
    pthread_mutex_lock(&self->mutex);
    atomic_store(&self->parked, true);
    /* Sequentially consistent against `publish`: either it sees us parked, or we see its job. */
    while (epoch_of(atomic_load(&pool_state)) == seen)
        pthread_cond_wait(&self->wake, &self->mutex);
    atomic_store(&self->parked, false);
    pthread_mutex_unlock(&self->mutex);
}

/* Returns when the epoch is no longer `seen`. */
static void wait_for_job(worker *self, uint32_t seen) {
    int64_t deadline = rb_clock_ns() + spin_ns;
    for (;;) {
        for (int i = 0; i < 64; i++) {
            if (epoch_of(atomic_load_explicit(&pool_state, memory_order_relaxed)) != seen)
                return;
            relax();
        }
        if (rb_clock_ns() >= deadline) {
            park(self, seen);
            return;
        }
    }
}

static bool try_join(int number, uint32_t *seen) {
    uint64_t state = atomic_load(&pool_state);
    for (;;) {
        *seen = epoch_of(state);
        if (!(state & open_bit) || number >= wanted_of(state))
            return false;
        if (atomic_compare_exchange_weak(&pool_state, &state, state + 1))
            return true;
    }
}

static void *run_worker(void *argument) {
    worker *self = argument;
    uint32_t seen = 0; /* epochs begin at 1: a job opened before this thread ran is still joined */
    for (;;) {
        wait_for_job(self, seen);
        if (try_join(self->number, &seen)) {
            rb_float_state state = rb_float_enter();
            run_pieces(&pool_job, self->number, NULL);
            rb_float_leave(state);
            atomic_fetch_sub_explicit(&pool_state, 1, memory_order_release);
        }
        if (atomic_load(&pool_quit))
            return NULL;
    }
}

/* Makes a new epoch and wakes the parked among the first `threads`. */
static void publish(int threads, uint64_t open) {
    uint32_t epoch = epoch_of(atomic_load_explicit(&pool_state, memory_order_relaxed)) + 1;
    if (epoch == 0)
        epoch = 1;
    atomic_store(&pool_state, (uint64_t)epoch << 32 | (uint64_t)threads << 16 | open);
    for (int i = 1; i < threads && i <= pool_started; i++) {
        worker *one = &pool_workers[i];
        if (!atomic_load(&one->parked))
            continue;
        pthread_mutex_lock(&one->mutex);
        pthread_cond_signal(&one->wake);
        pthread_mutex_unlock(&one->mutex);
    }
}

static void stop_workers(void) {
    if (pool_started == 0)
        return;
    atomic_store(&pool_quit, true);
    publish(pool_started + 1, 0);
    for (int i = 1; i <= pool_started; i++) {
        pthread_join(pool_workers[i].thread, NULL);
        pthread_mutex_destroy(&pool_workers[i].mutex);
        pthread_cond_destroy(&pool_workers[i].wake);
    }
    pool_started = 0;
    atomic_store(&pool_quit, false);
}

static bool start_worker(int number, const pthread_attr_t *attributes) {
    worker *one = &pool_workers[number];
    one->number = number;
    atomic_store(&one->parked, false);
    pthread_mutex_init(&one->mutex, NULL);
    pthread_cond_init(&one->wake, NULL);
    if (pthread_create(&one->thread, attributes, run_worker, one) == 0)
        return true;
    pthread_mutex_destroy(&one->mutex);
    pthread_cond_destroy(&one->wake);
    return false;
}

static void start_workers(int n) {
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    sigfillset(&all); /* signals are for the application's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* Where the system gives no more threads, those there are do the work. */
    while (pool_started < n && start_worker(pool_started + 1, &attributes))
        pool_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* ---- fork ----------------------------------------------------------------------------------------- */

/* The child has only the thread that forked: whatever the pool was doing, it starts anew. */
void rb_pool_after_fork(void) {
    atomic_store(&pool_state, 0);
    atomic_store(&pool_busy, false);
    atomic_store(&pool_quit, false);
    atomic_fetch_add(&pool_generation, 1);
    pool_started = 0;
    pool_asked = 0;
}

int rb_pool_generation(void) { return atomic_load_explicit(&pool_generation, memory_order_relaxed); }

/* ---- jobs ----------------------------------------------------------------------------------------- */

static bool acquire(void) { return !atomic_exchange_explicit(&pool_busy, true, memory_order_acquire); }

static void release(void) { atomic_store_explicit(&pool_busy, false, memory_order_release); }

static void match_workers(int threads) {
    if (pool_asked == threads)
        return;
    stop_workers();
    start_workers(threads - 1);
    pool_asked = threads;
}

/* Waits for the workers inside the closed job. They are within one piece of the end. */
static void wait_for_workers(rb_poller *poller) {
    for (int64_t spins = 0;; spins++) {
        if ((atomic_load_explicit(&pool_state, memory_order_acquire) & inside_mask) == 0)
            return;
        if (spins < 4096) {
            relax();
            continue;
        }
        sched_yield(); /* the machine is crowded: let them finish */
        rb_poll(poller, cost_of_call);
    }
}

static bool run_together(const rb_work *work, int threads, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    pool_job = make_job(work, pool_slots, threads);
    fill_slots(&pool_job);
    publish(threads, open_bit);
    run_pieces(&pool_job, 0, poller);
    if (poller && poller->stopped)
        for (int i = 0; i < threads; i++)
            atomic_store(&pool_slots[i].next, pool_slots[i].pieces);
    atomic_fetch_and(&pool_state, ~open_bit);
    wait_for_workers(poller);
    merge_failures(&pool_job, status);
    return !(poller && poller->stopped);
}

bool rb_pool_run(const rb_work *work, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    int64_t threads = work->cost / cost_per_thread;
    if (threads > work->threads)
        threads = work->threads;
    if (threads > work->tasks)
        threads = work->tasks;
    if (threads <= 1 || !acquire())
        return run_alone(work, poller, status);
    int generation = rb_pool_generation();
    match_workers(rb_num_threads());
    if (threads > pool_started + 1)
        threads = pool_started + 1;
    bool finished = threads > 1 ? run_together(work, (int)threads, poller, status)
                                : run_alone(work, poller, status);
    if (rb_pool_generation() == generation)
        release();
    return finished;
}

int rb_shutdown(void) {
    if (!acquire())
        return RB_ARGUMENT; /* a run is going on */
    stop_workers();
    pool_asked = 0;
    release();
    return RB_OK;
}

#endif
