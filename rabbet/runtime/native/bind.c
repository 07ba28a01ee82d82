/* Binds a program to the values of its symbols: sizes, guards, arena. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static long long show(int64_t value) { return (long long)value; }

static void *array(int64_t n, size_t size) { return calloc(n > 0 ? (size_t)n : 1, size); }

/* Rounds towards minus infinity, as Python does. False: division by zero or overflow. */
static bool floor_divide(int64_t a, int64_t b, int64_t *quotient, int64_t *rest) {
    if (b == 0 || (a == INT64_MIN && b == -1))
        return false;
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0)) {
        --*quotient;
        *rest += b;
    }
    return true;
}

static bool evaluate(const rb_expr *expr, const int64_t *symbols, const int64_t *values, int64_t *value) {
    int64_t quotient = 0, rest = 0;
    if (expr->opcode == RB_CONST) {
        *value = expr->a;
        return true;
    }
    if (expr->opcode == RB_SYMBOL) {
        *value = symbols[expr->a];
        return true;
    }
    int64_t a = values[expr->a], b = values[expr->b];
    switch (expr->opcode) {
    case RB_ADD:
        return !__builtin_add_overflow(a, b, value);
    case RB_SUB:
        return !__builtin_sub_overflow(a, b, value);
    case RB_MUL:
        return !__builtin_mul_overflow(a, b, value);
    case RB_FLOORDIV:
    case RB_MOD:
        if (!floor_divide(a, b, &quotient, &rest))
            return false;
        *value = expr->opcode == RB_FLOORDIV ? quotient : rest;
        return true;
    case RB_MAX:
        *value = a > b ? a : b;
        return true;
    default: /* RB_MIN: the plan was checked */
        *value = a < b ? a : b;
        return true;
    }
}

static bool holds(int64_t relation, int64_t value) {
    switch (relation) {
    case 0:
        return value == 0;
    case 1:
        return value != 0;
    case 2:
        return value < 0;
    default:
        return value >= 0;
    }
}

/* A guard may protect an expression (n != 0 before m // n), so guards speak before failed arithmetic. */
static int evaluate_all(const rb_program *program, const int64_t *symbols, int64_t *values, bool *valid,
                        rb_error *error) {
    int64_t failed = -1;
    for (int64_t i = 0; i < program->n_exprs; i++) {
        const rb_expr *expr = &program->exprs[i];
        bool is_leaf = expr->opcode == RB_CONST || expr->opcode == RB_SYMBOL;
        valid[i] = (is_leaf || (valid[expr->a] && valid[expr->b])) &&
                   evaluate(expr, symbols, values, &values[i]);
        if (!valid[i] && failed < 0)
            failed = i;
    }
    for (int64_t i = 0; i < program->n_guards; i++) {
        const rb_guard *guard = &program->guards[i];
        if (!valid[guard->expr] || holds(guard->relation, values[guard->expr]))
            continue;
        rb_fail(error, RB_GUARD, "guard %lld does not hold: its expression is %lld", show(i),
                show(values[guard->expr]));
        if (error)
            error->value = i;
        return RB_GUARD;
    }
    if (failed >= 0)
        return rb_fail(error, RB_ARITHMETIC, "size expression %lld overflows or divides by zero", show(failed));
    return RB_OK;
}

static int fill_calls(rb_bound *bound, const int64_t *values, rb_error *error) {
    const rb_program *program = bound->program;
    for (int64_t i = 0; i < program->n_calls; i++) {
        const rb_call *call = &program->calls[i];
        int64_t tasks = values[call->tasks], cost = values[call->cost], scratch = values[call->scratch];
        if (tasks < 0 || cost < 0 || scratch < 0)
            return rb_fail(error, RB_ARITHMETIC, "call %lld: %lld tasks, cost %lld, %lld bytes of scratch",
                           show(i), show(tasks), show(cost), show(scratch));
        bound->tasks[i] = tasks;
        bound->costs[i] = cost;
        if (__builtin_add_overflow(bound->cost, cost, &bound->cost))
            bound->cost = INT64_MAX; /* only says whether a run is long */
        if (scratch > bound->scratch_bytes)
            bound->scratch_bytes = scratch;
        for (int64_t k = 0; k < call->n_sizes; k++)
            bound->sizes[call->first_size + k] = values[call->sizes[k]];
    }
    return RB_OK;
}

static int fill_buffers(rb_bound *bound, const int64_t *values, rb_error *error) {
    const rb_program *program = bound->program;
    for (int64_t i = 0; i < program->n_buffers; i++) {
        const rb_buffer *buffer = &program->buffers[i];
        int64_t bytes = values[buffer->bytes];
        if (bytes < 0)
            return rb_fail(error, RB_ARITHMETIC, "buffer %lld has %lld bytes", show(i), show(bytes));
        bound->buffer_bytes[i] = bytes;
        bound->offsets[i] = -1;
        if (buffer->kind == RB_ARENA)
            continue;
        int64_t *most = &bound->number_bytes[buffer->kind][buffer->number];
        if (bytes > *most)
            *most = bytes;
        if (buffer->kind == RB_CONSTANT && bytes > program->constants[buffer->number].bytes)
            return rb_fail(error, RB_BAD_PROGRAM, "constant %lld has %lld bytes, %lld are needed",
                           show(buffer->number), show(program->constants[buffer->number].bytes), show(bytes));
    }
    return RB_OK;
}

/* One span for each group of arena buffers that share memory: the largest size, the joint lifetime. */
static int64_t gather_spans(const rb_bound *bound, rb_span *spans, int64_t *span_of) {
    const rb_program *program = bound->program;
    int64_t n = 0;
    for (int64_t i = 0; i < program->n_buffers; i++) {
        const rb_buffer *buffer = &program->buffers[i];
        int64_t root = program->roots[i], bytes = bound->buffer_bytes[i];
        if (buffer->kind != RB_ARENA)
            continue;
        if (root == i) {
            span_of[i] = n;
            spans[n++] = (rb_span){.first = buffer->first, .last = buffer->last, .bytes = bytes};
            continue;
        }
        span_of[i] = span_of[root];
        rb_span *span = &spans[span_of[i]];
        span->first = buffer->first < span->first ? buffer->first : span->first;
        span->last = buffer->last > span->last ? buffer->last : span->last;
        span->bytes = bytes > span->bytes ? bytes : span->bytes;
    }
    return n;
}

static int fill_arena(rb_bound *bound, rb_error *error) {
    const rb_program *program = bound->program;
    rb_span *spans = array(program->n_numbers[RB_ARENA], sizeof *spans);
    int64_t *span_of = array(program->n_buffers, sizeof *span_of);
    int code = RB_OK;
    if (spans && span_of) {
        int64_t n = gather_spans(bound, spans, span_of);
        code = rb_arena_layout(spans, n, &bound->arena_bytes, &bound->live_bytes, &bound->unshared_bytes, error);
        for (int64_t i = 0; code == RB_OK && i < program->n_buffers; i++)
            if (program->buffers[i].kind == RB_ARENA)
                bound->offsets[i] = spans[span_of[i]].offset;
    } else {
        code = rb_fail(error, RB_MEMORY, "no memory to bind a program");
    }
    free(spans);
    free(span_of);
    return code;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Binds the bodies to the same symbols; the caller's guards have spoken for them. */
static int fill_bodies(rb_bound *bound, rb_error *error) {
    rb_program *program = bound->program;
    for (int64_t i = 0; i < program->n_bodies; i++) {
        int code = rb_program_bind(program->bodies[i], bound->symbols, (size_t)program->n_symbols,
                                   &bound->bodies[i], error);
        if (code != RB_OK)
            return code;
        bound->scratch_bytes = larger(bound->scratch_bytes, bound->bodies[i]->scratch_bytes);
    }
    for (int64_t i = 0; i < program->n_calls; i++) {
        const rb_call *call = &program->calls[i];
        if (!(call->flags & RB_CALL_CONTROL))
            continue;
        int code = rb_control_bind(bound, i, call, error);
        if (code != RB_OK)
            return code;
        int64_t inside = larger(bound->bodies[call->kernel]->cost, bound->bodies[call->kernel + 1]->cost);
        if ((call->flags & RB_CALL_LOOP) || __builtin_add_overflow(bound->cost, inside, &bound->cost))
            bound->cost = INT64_MAX; /* nobody knows how long a loop is */
    }
    return RB_OK;
}

static bool add_rounded(int64_t *total, int64_t bytes) {
    return !__builtin_add_overflow(*total, bytes, total) && !__builtin_add_overflow(*total, RB_LINE - 1, total) &&
           (*total &= ~(int64_t)(RB_LINE - 1), true);
}

/* Where things lie in the memory of a run. Bodies run one after the other, in the same memory. */
static int fill_frame(rb_bound *bound, rb_error *error) {
    const rb_program *program = bound->program;
    int64_t most = 0, pointers = (program->n_buffers + program->max_call_buffers) * (int64_t)sizeof(uint8_t *);
    for (int64_t i = 0; i < program->n_bodies; i++)
        most = larger(most, bound->bodies[i]->frame_bytes);
    bool fits = add_rounded(&bound->pointers_at, bound->arena_bytes);
    bound->inner_at = bound->pointers_at;
    fits = fits && add_rounded(&bound->inner_at, pointers);
    bound->frame_bytes = bound->inner_at;
    if (!fits || !add_rounded(&bound->frame_bytes, most))
        return rb_fail(error, RB_ARITHMETIC, "an arena of %lld bytes and those of its bodies overflow",
                       show(bound->arena_bytes));
    return RB_OK;
}

static bool allocate(rb_bound *bound, const int64_t *symbols) {
    const rb_program *program = bound->program;
    bool complete = true;
    bound->symbols = array(program->n_symbols, sizeof(int64_t));
    bound->buffer_bytes = array(program->n_buffers, sizeof(int64_t));
    bound->offsets = array(program->n_buffers, sizeof(int64_t));
    bound->sizes = array(program->n_sizes, sizeof(int64_t));
    bound->tasks = array(program->n_calls, sizeof(int64_t));
    bound->costs = array(program->n_calls, sizeof(int64_t));
    bound->bodies = array(program->n_bodies, sizeof(rb_bound *));
    for (int kind = 0; kind < 3; kind++) {
        bound->number_bytes[kind] = array(program->n_numbers[kind], sizeof(int64_t));
        complete = complete && bound->number_bytes[kind];
    }
    complete = complete && bound->symbols && bound->buffer_bytes && bound->offsets && bound->sizes &&
               bound->tasks && bound->costs && bound->bodies;
    if (complete && program->n_symbols > 0)
        memcpy(bound->symbols, symbols, (size_t)program->n_symbols * sizeof(int64_t));
    return complete;
}

static int fill(rb_bound *bound, const int64_t *symbols, rb_error *error) {
    const rb_program *program = bound->program;
    int64_t *values = array(program->n_exprs, sizeof *values);
    bool *valid = array(program->n_exprs, sizeof *valid);
    int code = RB_OK;
    if (!allocate(bound, symbols) || !values || !valid)
        code = rb_fail(error, RB_MEMORY, "no memory to bind a program");
    if (code == RB_OK)
        code = evaluate_all(program, symbols, values, valid, error);
    if (code == RB_OK)
        code = fill_calls(bound, values, error);
    if (code == RB_OK)
        code = fill_buffers(bound, values, error);
    if (code == RB_OK)
        code = fill_arena(bound, error);
    if (code == RB_OK)
        code = fill_bodies(bound, error);
    if (code == RB_OK)
        code = fill_frame(bound, error);
    free(values);
    free(valid);
    return code;
}

/* Moves entry `at` to the front; under the lock. */
static void to_front(rb_program *program, int at, rb_bound *bound) {
    memmove(program->cache + 1, program->cache, (size_t)at * sizeof *program->cache);
    program->cache[0] = bound;
}

/* The remembered binding to these symbols, retained, or NULL; under the lock. */
static rb_bound *find(rb_program *program, const int64_t *symbols) {
    size_t bytes = (size_t)program->n_symbols * sizeof *symbols;
    for (int i = 0; i < RB_BOUND_CACHE && program->cache[i]; i++) {
        rb_bound *bound = program->cache[i];
        if (bytes == 0 || memcmp(bound->symbols, symbols, bytes) == 0) {
            to_front(program, i, bound);
            rb_bound_retain(bound);
            return bound;
        }
    }
    return NULL;
}

/* Remembers `bound`; returns the binding that falls out. */
static rb_bound *remember(rb_program *program, rb_bound *bound) {
    rb_bound *oldest = program->cache[RB_BOUND_CACHE - 1];
    rb_bound_retain(bound);
    to_front(program, RB_BOUND_CACHE - 1, bound);
    return oldest;
}

int rb_program_bind(rb_program *program, const int64_t *symbols, size_t n_symbols, rb_bound **bound,
                    rb_error *error) {
    *bound = NULL;
    if ((uint64_t)program->n_symbols != n_symbols)
        return rb_fail(error, RB_ARGUMENT, "the program has %lld symbols, %zu values were given",
                       show(program->n_symbols), n_symbols);
    rb_lock();
    *bound = find(program, symbols);
    rb_unlock();
    if (*bound)
        return RB_OK;
    rb_bound *made = calloc(1, sizeof *made);
    if (!made)
        return rb_fail(error, RB_MEMORY, "no memory to bind a program");
    atomic_init(&made->owners, 1);
    made->program = program;
    atomic_fetch_add(&program->owners, 1);
    int code = fill(made, symbols, error);
    if (code != RB_OK) {
        rb_bound_release(made);
        return code;
    }
    rb_lock();
    rb_bound *other = find(program, symbols); /* another thread may have been faster */
    rb_bound *dropped = other ? made : remember(program, made);
    rb_unlock();
    rb_bound_release(dropped);
    *bound = other ? other : made;
    return RB_OK;
}

int64_t rb_bound_bytes(const rb_bound *bound, int kind, int64_t number) {
    if (kind < 0 || kind > RB_CONSTANT || number < 0 || number >= bound->program->n_numbers[kind])
        return -1;
    return bound->number_bytes[kind][number];
}

int64_t rb_bound_cost(const rb_bound *bound) { return bound->cost; }

int64_t rb_bound_arena_bytes(const rb_bound *bound) { return bound->arena_bytes; }

int64_t rb_bound_live_bytes(const rb_bound *bound) { return bound->live_bytes; }

int64_t rb_bound_unshared_bytes(const rb_bound *bound) { return bound->unshared_bytes; }

int rb_bound_place(const rb_bound *bound, int64_t index, int64_t *offset, int64_t *bytes) {
    if (index < 0 || index >= bound->program->n_buffers)
        return RB_ARGUMENT;
    *offset = bound->offsets[index];
    *bytes = bound->buffer_bytes[index];
    return RB_OK;
}
