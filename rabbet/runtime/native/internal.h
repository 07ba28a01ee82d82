/* What the files of the runtime share with one another and with nobody else. */
#ifndef RB_INTERNAL_H
#define RB_INTERNAL_H

#include "float_state.h"
#include "rabbet.h"

#include <stdatomic.h>
#include <stdbool.h>

#define RB_MAX_THREADS 256
#define RB_ALIGNMENT 64
#define RB_LINE 128 /* neighbouring lines are fetched in pairs: what threads write stands this far apart */
#define RB_BOUND_CACHE 16
#define RB_POLL_NS 50000000 /* a poll function is asked about this often */

/* ---- plan, as words ------------------------------------------------------------------------------ */

enum {
    RB_HEADER_WORDS = 16,
    RB_EXPR_WORDS = 3,
    RB_GUARD_WORDS = 2,
    RB_BUFFER_WORDS = 6,
    RB_CALL_WORDS = 7
};

/* Flags of a call. */
enum {
    RB_CALL_CAN_FAIL = 1,
    RB_CALL_IS_COPY = 2, /* nothing to do where its two buffers are the same memory */
    RB_CALL_COND = 4,    /* runs one of two bodies; see control.c for the buffers of these two */
    RB_CALL_LOOP = 8,    /* runs a body as often as a test says */
    RB_CALL_FLAGS = 16
};

enum { RB_CALL_CONTROL = RB_CALL_COND | RB_CALL_LOOP, RB_MOST_DEPTH = 64 };

enum rb_opcode {
    RB_CONST = 0,
    RB_SYMBOL,
    RB_ADD,
    RB_SUB,
    RB_MUL,
    RB_FLOORDIV,
    RB_MOD,
    RB_MAX,
    RB_MIN,
    RB_OPCODES
};

typedef struct rb_expr {
    int64_t opcode, a, b;
} rb_expr;

typedef struct rb_guard {
    int64_t relation, expr;
} rb_guard;

typedef struct rb_buffer {
    int64_t kind, number, bytes, first, last, alias;
} rb_buffer;

typedef struct rb_call {
    int64_t kernel, /* of a control call: its first body; the second one follows */
        tasks, cost, scratch, flags, n_buffers, n_sizes;
    const int64_t *buffers; /* n_buffers indices */
    const int64_t *sizes;   /* n_sizes expressions */
    int64_t first_size;     /* where its sizes start among those of all calls */
} rb_call;

struct rb_program {
    atomic_int handles; /* users of the program */
    atomic_int owners;  /* handles (counted once) and bound programs: what keeps the memory */
    int64_t *words;
    const rb_expr *exprs;
    const rb_guard *guards;
    const rb_buffer *buffers;
    rb_call *calls;
    int64_t *roots; /* per buffer: the first buffer of those that share its memory */
    rb_kernel *kernels;
    rb_constant *constants;
    int64_t *donors;      /* per output: the input whose memory it may be given, or -1 */
    rb_program **bodies;  /* plans inside this one, with the same symbols and kernels; owned */
    int64_t n_bodies;     /* those that were read */
    int64_t n_symbols, n_exprs, n_guards, n_buffers, n_calls;
    int64_t n_numbers[4]; /* by rb_kind; RB_ARENA: how many arena buffers */
    int64_t n_kernels, commit_call, n_sizes, max_call_buffers;
    rb_bound *cache[RB_BOUND_CACHE]; /* most recently used first; under rb_lock */
};

struct rb_bound {
    atomic_int owners;
    rb_program *program; /* owned */
    int64_t *symbols;
    int64_t *buffer_bytes; /* per buffer */
    int64_t *offsets;      /* per buffer, -1 outside the arena */
    int64_t *number_bytes[3];
    int64_t *sizes; /* of all calls, one after the other */
    int64_t *tasks, *costs;
    rb_bound **bodies; /* of the program's bodies; owned */
    /* A run's memory: the arena, pointers, and behind them the memory of the body that is running. */
    int64_t pointers_at, inner_at, frame_bytes;
    int64_t arena_bytes, live_bytes, unshared_bytes, scratch_bytes, cost;
};

/* ---- memory.c, error.c ---------------------------------------------------------------------------- */

/* One process-wide lock for short sections; fork takes it, so that a child never finds it held. */
void rb_lock(void);
void rb_unlock(void);

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int rb_fail(rb_error *error, int code, const char *format, ...);

/* ---- arena.c -------------------------------------------------------------------------------------- */

typedef struct rb_span {
    int64_t first, last; /* calls, inclusive */
    int64_t bytes;
    int64_t offset; /* result */
} rb_span;

/* Gives each span an aligned offset so that no two alive at once overlap. */
int rb_arena_layout(rb_span *spans, int64_t n, int64_t *total, int64_t *live, int64_t *unshared,
                    rb_error *error);

/* ---- control.c ------------------------------------------------------------------------------------ */

/* What a control call lists: operands, results, and for a loop spare memory for each result and a flag. */
int rb_control_check(const rb_program *program, int64_t number, const rb_call *call, rb_error *error);
/* Whether the memory of a control call is as large as its bodies need. */
int rb_control_bind(const rb_bound *bound, int64_t number, const rb_call *call, rb_error *error);

/* ---- pool.c --------------------------------------------------------------------------------------- */

typedef struct rb_poller {
    int (*poll)(void *context);
    void *context;
    rb_float_state caller_state; /* what the poll function runs with */
    int64_t next_ns;
    int64_t done; /* operations since the clock was last read, roughly */
    int generation; /* of the pool when the run began; another one afterwards means a fork in between */
    bool stopped;
} rb_poller;

typedef struct rb_work {
    rb_kernel kernel;
    uint8_t *const *buffers;
    const int64_t *sizes;
    int64_t tasks, cost, call;
    uint8_t *scratch; /* `threads` times `scratch_stride` bytes */
    size_t scratch_stride;
    int threads;
} rb_work;

/* Does all tasks; `poller` may be NULL. `status` gets the failure with the smallest element, if any.
 * Returns false if the poller stopped it. Floating-point state must be the default already. */
bool rb_pool_run(const rb_work *work, rb_poller *poller, int64_t status[RB_STATUS_WORDS]);

/* True if the poll function wants the run to stop; asks it only when it is due. `cost`: of the work done
 * since the last call. */
bool rb_poll(rb_poller *poller, int64_t cost);
void rb_pool_after_fork(void); /* in the child */
int rb_pool_generation(void);
int64_t rb_clock_ns(void);

#endif
