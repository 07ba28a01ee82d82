/* What this machine can do at most: multiply-adds on registers, and memory read, written, copied.
 *
 * Compiled by base/limits.py with the C compiler of the machine, for the machine (-O3
 * -march=native). Every function runs on `threads` threads and returns the seconds of one pass,
 * or a rate; no kernel of Rabbet's is involved.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANE_BYTES 64
#elif defined(__AVX__)
#define LANE_BYTES 32
#else
#define LANE_BYTES 16
#endif
typedef float vector __attribute__((vector_size(LANE_BYTES)));
#define LANES (LANE_BYTES / 4)
#define CHAINS 12 /* independent sums: more than latency times units, and they fit the registers */
#define MAX_THREADS 256

enum kind { FMA_F32, FMA_BF16, MOVE };

struct job {
    enum kind kind;
    int thread, threads;
    long repeats;
    const char *from; /* what is read: `reads` bytes of it */
    char *to;         /* what is written: `writes` bytes of it */
    size_t reads, writes;
    int streaming; /* stores that go around the caches */
    double seconds;
    pthread_barrier_t *barrier;
    float sink;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float sum_of(const vector *v, int n) {
    float total = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < LANES; j++) total += v[i][j];
    return total;
}

/* Named sums rather than an array: an array may live in memory. */
#define EACH(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#define ADD(i) total += s##i;

static float fma_f32(long steps) {
    vector factor = {0}, total = {0};
    factor += 0.999999f;
#define START(i) vector s##i = factor * (0.001f * (i + 1));
#define STEP(i)                \
    s##i = s##i * factor + factor; \
    __asm__ volatile("" : "+v"(s##i)); /* is not merged with the next */
    EACH(START)
    for (long s = 0; s < steps; s++) {
        EACH(STEP)
    }
    EACH(ADD)
    return sum_of(&total, 1);
#undef START
#undef STEP
}

#if defined(__AVX512BF16__)
#define HAS_BF16 1
static float fma_bf16(long steps) {
    __m512 total = _mm512_setzero_ps();
    __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80);
#define START(i) __m512 s##i = _mm512_set1_ps((float)i);
#define STEP(i)                            \
    s##i = _mm512_dpbf16_ps(s##i, a, a); \
    __asm__ volatile("" : "+v"(s##i));
    EACH(START)
    for (long s = 0; s < steps; s++) {
        EACH(STEP)
    }
    EACH(ADD)
    return _mm512_reduce_add_ps(total);
#undef START
#undef STEP
}
#else
#define HAS_BF16 0
static float fma_bf16(long steps) { return (float)steps; }
#endif

static float read_all(const char *from, size_t bytes) {
    const vector *p = (const vector *)from;
    size_t n = bytes / LANE_BYTES, i = 0;
    vector total = {0};
#define START(i) vector s##i = {0};
#define STEP(j)                                  \
    __asm__ volatile("" : "+v"(s##j));           \
    s##j += p[i + j];
    EACH(START)
    for (; i + CHAINS <= n; i += CHAINS) {
        EACH(STEP)
    }
    for (; i < n; i++) s0 += p[i];
    EACH(ADD)
    return sum_of(&total, 1);
#undef START
#undef STEP
}

static inline void store(vector *p, vector v, int streaming) {
#if defined(__AVX512F__)
    if (streaming) {
        _mm512_stream_ps((float *)p, (__m512)v);
        return;
    }
#elif defined(__AVX__)
    if (streaming) {
        _mm256_stream_ps((float *)p, (__m256)v);
        return;
    }
#endif
    (void)streaming;
    *p = v;
}

static inline __attribute__((always_inline)) void copy_as(
    char *to, const char *from, size_t bytes, int streaming) {
    vector *q = (vector *)to;
    const vector *p = (const vector *)from;
    size_t n = bytes / LANE_BYTES, i = 0;
    for (; i + 4 <= n; i += 4) {
        vector a = p[i], b = p[i + 1], c = p[i + 2], d = p[i + 3];
        store(q + i, a, streaming);
        store(q + i + 1, b, streaming);
        store(q + i + 2, c, streaming);
        store(q + i + 3, d, streaming);
    }
    for (; i < n; i++) store(q + i, p[i], streaming);
}

static inline __attribute__((always_inline)) void fill_as(char *to, size_t bytes, int streaming) {
    vector *q = (vector *)to, v;
    for (int j = 0; j < LANES; j++) v[j] = 1.0f;
    for (size_t i = 0; i < bytes / LANE_BYTES; i++) store(q + i, v, streaming);
}

/* This thread's part of reading `reads` bytes and writing `writes`, side by side where both are. */
static float move_part(const struct job *job) {
    size_t line = 64, parts = (size_t)job->threads, part = (size_t)job->thread;
    size_t r0 = job->reads / line * part / parts * line;
    size_t r1 = job->reads / line * (part + 1) / parts * line;
    size_t w0 = job->writes / line * part / parts * line;
    size_t w1 = job->writes / line * (part + 1) / parts * line;
    size_t reads = r1 - r0, writes = w1 - w0, both = reads < writes ? reads : writes;
    if (job->streaming) {
        copy_as(job->to + w0, job->from + r0, both, 1);
        fill_as(job->to + w0 + both, writes - both, 1);
    } else {
        copy_as(job->to + w0, job->from + r0, both, 0);
        fill_as(job->to + w0 + both, writes - both, 0);
    }
    float total = read_all(job->from + r0 + both, reads - both);
#if defined(__x86_64__)
    if (job->streaming) _mm_sfence();
#endif
    return total;
}

static void *work(void *argument) {
    struct job *job = argument;
    pthread_barrier_wait(job->barrier);
    double begin = now();
    for (long i = 0; i < job->repeats; i++) {
        if (job->kind == FMA_F32) job->sink += fma_f32(1 << 14);
        if (job->kind == FMA_BF16) job->sink += fma_bf16(1 << 14);
        if (job->kind == MOVE) job->sink += move_part(job);
        __asm__ volatile("" ::: "memory");
    }
    job->seconds = now() - begin;
    pthread_barrier_wait(job->barrier);
    return NULL;
}

/* Two threads on one core would measure half of it. */
static void pin(pthread_t thread, int number) {
#if defined(__linux__)
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    int left = number % CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || left--) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
#else
    (void)thread, (void)number;
#endif
}

/* Seconds of one repeat: those of the slowest thread. */
static double run(struct job whole) {
    static struct job jobs[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)whole.threads);
    for (int i = 0; i < whole.threads; i++) {
        jobs[i] = whole;
        jobs[i].thread = i;
        jobs[i].barrier = &barrier;
        pthread_create(&threads[i], NULL, work, &jobs[i]);
        pin(threads[i], i);
    }
    double slowest = 0;
    for (int i = 0; i < whole.threads; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].seconds > slowest) slowest = jobs[i].seconds;
    }
    pthread_barrier_destroy(&barrier);
    return slowest / (double)whole.repeats;
}

/* FLOP/s of multiply-adds on registers; 0 where the CPU has none for the type. */
double limits_fma(int threads, int bf16, long repeats) {
    if (bf16 && !HAS_BF16) return 0;
    struct job job = {.kind = bf16 ? FMA_BF16 : FMA_F32, .threads = threads, .repeats = repeats};
    double each = 2.0 * (bf16 ? 2 : 1) * LANES * CHAINS * (1 << 14) * threads;
    return each / run(job);
}

/* Memory in large pages where there are any, or NULL. */
static char *pages(size_t bytes) {
    size_t page = 1 << 21;
    void *found = NULL;
    bytes = (bytes + page) / page * page;
    if (posix_memalign(&found, page, bytes)) return NULL;
#if defined(MADV_HUGEPAGE)
    madvise(found, bytes, MADV_HUGEPAGE);
#endif
    memset(found, 1, bytes);
    return found;
}

/* Seconds to read and write so many bytes, each of its own buffer; -1 without memory. */
double limits_move(int threads, size_t reads, size_t writes, int streaming, long repeats) {
    char *from = pages(reads), *to = pages(writes);
    if (!from || !to) {
        free(from);
        free(to);
        return -1;
    }
    struct job job = {.kind = MOVE,
                      .threads = threads,
                      .repeats = 1,
                      .from = from,
                      .to = to,
                      .reads = reads,
                      .writes = writes,
                      .streaming = streaming};
    run(job);
    job.repeats = repeats;
    double seconds = run(job);
    free(from);
    free(to);
    return seconds;
}
