/* Kernels for the tests of the runtime, with the ABI of rabbet.h. */
#include <stdint.h>
#include <time.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define KERNEL(name)                                                                              \
    void name(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end,          \
              uint8_t *scratch, int64_t *status)
#define UNUSED(x) (void)(x)

/* buffers[2] = buffers[0] * sizes[0] + buffers[1], int64 */
KERNEL(axpy) {
    UNUSED(scratch);
    UNUSED(status);
    const int64_t *x = (const int64_t *)(const void *)buffers[0], *y = (const int64_t *)(const void *)buffers[1];
    int64_t *out = (int64_t *)(void *)buffers[2];
    for (int64_t i = begin; i < end; i++)
        out[i] = x[i] * sizes[0] + y[i];
}

/* buffers[2][i] = buffers[0][clamp(buffers[1][i])] for a table of sizes[0] entries; records what it clamps. */
KERNEL(gather) {
    UNUSED(scratch);
    const int64_t *table = (const int64_t *)(const void *)buffers[0], *index = (const int64_t *)(const void *)buffers[1];
    int64_t *out = (int64_t *)(void *)buffers[2];
    for (int64_t i = begin; i < end; i++) {
        int64_t at = index[i];
        if (at < 0 || at >= sizes[0]) {
            if (status[0] == 0) {
                status[0] = 1;
                status[2] = i;
                status[3] = at;
                status[4] = sizes[0];
            }
            at = at < 0 ? 0 : sizes[0] - 1;
        }
        out[i] = table[at];
    }
}

/* buffers[0][i] = sizes[i], all of them; one task. */
KERNEL(show_sizes) {
    UNUSED(scratch);
    UNUSED(status);
    for (int64_t i = 0; i < sizes[0] * (end - begin); i++)
        ((int64_t *)(void *)buffers[0])[i] = sizes[1 + i];
}

/* buffers[0][i] = bits of (least normal float / 2): zero where subnormals are flushed. */
KERNEL(halve_least) {
    UNUSED(sizes);
    UNUSED(scratch);
    UNUSED(status);
    volatile float least = 0x1p-126f;
    for (int64_t i = begin; i < end; i++)
        ((float *)(void *)buffers[0])[i] = least * 0.5f;
}

/* Busy for sizes[0] nanoseconds a task, then buffers[0][task] += 1. */
KERNEL(work_ns) {
    UNUSED(scratch);
    UNUSED(status);
    for (int64_t i = begin; i < end; i++) {
        struct timespec start, now;
        clock_gettime(CLOCK_MONOTONIC, &start);
        do
            clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < sizes[0]);
        ((int64_t *)(void *)buffers[0])[i] += 1;
    }
}

/* buffers[0][task] = address of scratch. */
KERNEL(show_scratch) {
    UNUSED(sizes);
    UNUSED(status);
    for (int64_t i = begin; i < end; i++)
        ((int64_t *)(void *)buffers[0])[i] = (int64_t)(uintptr_t)scratch;
}

KERNEL(nothing) {
    UNUSED(buffers);
    UNUSED(sizes);
    UNUSED(begin);
    UNUSED(end);
    UNUSED(scratch);
    UNUSED(status);
}

/* What other libraries do to a thread: flush subnormals. Returns 0 where that cannot be done. */
int set_flushing(int on) {
#if defined(__SSE__)
    _mm_setcsr(on ? _mm_getcsr() | 0x8040 : _mm_getcsr() & ~0x8040u);
    return 1;
#else
    return on * 0;
#endif
}

int is_flushing(void) {
#if defined(__SSE__)
    return (_mm_getcsr() & 0x8040) == 0x8040;
#else
    return 0;
#endif
}
