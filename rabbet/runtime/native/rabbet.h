/* The one ABI of Rabbet's native runtime: run a compiled program without Python.
 *
 * A program is a plan (checked int64 words), kernels and constants. Binding it to the values of its
 * symbols fixes every size and lays out the arena; a bound program is run any number of times, from any
 * number of threads. Needs C11 with libc and POSIX threads (or RB_NO_THREADS, then everything runs on the
 * caller). Functions return RB_OK or an rb_code and then fill *error (which may be NULL).
 */
#ifndef RABBET_H
#define RABBET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef RB_API
#define RB_API
#endif

#define RB_ABI_VERSION 2
#define RB_PLAN_VERSION 1
#define RB_STATUS_WORDS 5

enum rb_code {
    RB_OK = 0,
    RB_BAD_PROGRAM = 1, /* the plan breaks a rule of its format */
    RB_GUARD = 2,       /* this program was not made for these symbol values */
    RB_ARITHMETIC = 3,  /* a size overflows, is negative, or divides by zero */
    RB_MEMORY = 4,      /* no memory */
    RB_INDEX = 5,       /* a kernel met an index out of range: see call, element, value, extent */
    RB_INTERRUPTED = 6, /* the poll function asked to stop; nothing was committed */
    RB_ARGUMENT = 7     /* the caller passed something wrong */
};

/* What a buffer of a plan is. */
enum rb_kind { RB_INPUT = 0, RB_OUTPUT = 1, RB_CONSTANT = 2, RB_ARENA = 3 };

typedef struct rb_error {
    int32_t code;
    int32_t committed; /* 1: the failure was met after inputs were written over */
    int64_t call;      /* RB_INDEX: number of the call in the plan */
    int64_t element;   /* RB_INDEX: the smallest failing element of that call */
    int64_t value;     /* RB_INDEX: the index found there; RB_GUARD: number of the guard */
    int64_t extent;    /* RB_INDEX: the index must be at least 0 and less than this */
    char text[192];
} rb_error;

/* Does tasks [begin, end) of a call. Any partition of the tasks must give the same bits. */
typedef void (*rb_kernel)(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end,
                          uint8_t *scratch, int64_t *status);

typedef struct rb_constant {
    const void *data; /* must outlive the program and everything bound from it */
    int64_t bytes;
} rb_constant;

typedef struct rb_options {
    /* Called about every 50 ms, on the calling thread, until the first call that writes over an input starts;
     * nonzero stops the run. */
    int (*poll)(void *context);
    void *context;
    int64_t *profile; /* nanoseconds of each call (one entry a call), or NULL */
    int64_t *status;  /* RB_STATUS_WORDS {code, call, element, value, extent} of the first failure, or NULL */
    int32_t threads;  /* at most this many threads; 0: rb_num_threads() */
} rb_options;

typedef struct rb_program rb_program;
typedef struct rb_bound rb_bound;

/* Checks the plan completely and copies it. Kernels and constants are kept by address. */
RB_API int rb_program_create(const int64_t *words, size_t n_words, const rb_kernel *kernels,
                             size_t n_kernels, const rb_constant *constants, size_t n_constants,
                             rb_program **program, rb_error *error);
RB_API void rb_program_retain(rb_program *program);
/* The last release drops the cache of bound programs; those in use live on. */
RB_API void rb_program_release(rb_program *program);
/* How many inputs, outputs, constants (by rb_kind; RB_ARENA: arena buffers) the program has; -1: bad kind. */
RB_API int64_t rb_program_count(const rb_program *program, int kind);
RB_API int64_t rb_program_symbols(const rb_program *program);
RB_API int64_t rb_program_calls(const rb_program *program);

/* Evaluates sizes and guards; the last 16 bindings are remembered. Release *bound after use. */
RB_API int rb_program_bind(rb_program *program, const int64_t *symbols, size_t n_symbols,
                           rb_bound **bound, rb_error *error);
RB_API void rb_bound_retain(rb_bound *bound);
RB_API void rb_bound_release(rb_bound *bound);
/* Bytes that input, output or constant `number` must have; 0 if no call uses it, -1 if there is none. */
RB_API int64_t rb_bound_bytes(const rb_bound *bound, int kind, int64_t number);
RB_API int64_t rb_bound_cost(const rb_bound *bound);           /* scalar operations of one run */
RB_API int64_t rb_bound_arena_bytes(const rb_bound *bound);    /* size of the arena */
RB_API int64_t rb_bound_live_bytes(const rb_bound *bound);     /* the most that is alive at once */
RB_API int64_t rb_bound_unshared_bytes(const rb_bound *bound); /* arena size if nothing were reused */
/* Where buffer `index` of the plan lies: its bytes and, in the arena, its offset (else -1). */
RB_API int rb_bound_place(const rb_bound *bound, int64_t index, int64_t *offset, int64_t *bytes);

/* The number of the input whose memory output `output` may be given to write over, or -1. */
RB_API int64_t rb_program_donor(const rb_program *program, int64_t output);
/* Runs once. An output may be the same memory as its donor; then nothing stops the run once commit_call has
 * started. */
RB_API int rb_run(rb_bound *bound, void *const *inputs, void *const *outputs,
                  const rb_options *options, rb_error *error);

/* Threads a run may use: RABBET_NUM_THREADS, else the cores this process may use; -1 if the variable
 * is not a whole number from 1 to 256. */
RB_API int rb_num_threads(void);
RB_API int rb_set_num_threads(int threads); /* RB_OK, or RB_ARGUMENT outside 1..256; 0: the default */
/* Ends the pool's threads (before unloading a library); a later run starts them again. */
RB_API int rb_shutdown(void);

/* 64-byte aligned memory from a bounded cache of freed blocks; NULL if there is none. */
RB_API void *rb_memory_take(size_t bytes);
/* The same for a short while: in place of a large block a larger one that waits. `bytes` becomes what is
 * to be given back. */
RB_API void *rb_memory_take_room(size_t *bytes);
RB_API void rb_memory_give(void *memory, size_t bytes); /* `bytes` as it was taken */
RB_API size_t rb_memory_cached(void);
RB_API size_t rb_memory_live(void);
RB_API void rb_memory_trim(void); /* returns what is cached to the system */
/* Most bytes to keep cached; by default as much as was ever in use at once since the last trim. */
RB_API void rb_memory_set_limit(size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
