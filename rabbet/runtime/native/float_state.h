/* Floating-point control state: kernels run with round-to-nearest and without flushing subnormals,
 * whatever other libraries have set on this thread. */
#ifndef RB_FLOAT_STATE_H
#define RB_FLOAT_STATE_H

#include <stdint.h>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
typedef uint32_t rb_float_state;
#define RB_FLOAT_DEFAULT 0x1F80u /* all exceptions masked, no flags, nearest, no FTZ, no DAZ */
static inline rb_float_state rb_float_get(void) { return _mm_getcsr(); }
static inline void rb_float_set(rb_float_state state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
typedef uint64_t rb_float_state;
#define RB_FLOAT_DEFAULT 0u
static inline rb_float_state rb_float_get(void) {
    rb_float_state state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
static inline void rb_float_set(rb_float_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
#elif defined(__arm__) && defined(__ARM_FP) && !defined(__SOFTFP__)
typedef uint32_t rb_float_state;
#define RB_FLOAT_DEFAULT 0u
static inline rb_float_state rb_float_get(void) {
    rb_float_state state;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(state));
    return state;
}
static inline void rb_float_set(rb_float_state state) { __asm__ volatile("vmsr fpscr, %0" : : "r"(state)); }
#else /* no such register, or none that C code may change behind our back */
typedef uint32_t rb_float_state;
#define RB_FLOAT_DEFAULT 0u
static inline rb_float_state rb_float_get(void) { return RB_FLOAT_DEFAULT; }
static inline void rb_float_set(rb_float_state state) { (void)state; }
#endif

/* Sets the default and returns what was there. */
static inline rb_float_state rb_float_enter(void) {
    rb_float_state state = rb_float_get();
    if (state != RB_FLOAT_DEFAULT)
        rb_float_set(RB_FLOAT_DEFAULT);
    return state;
}

/* Kernels raise flags, so the state is always written back. */
static inline void rb_float_leave(rb_float_state state) { rb_float_set(state); }

#endif
