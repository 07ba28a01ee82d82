/* Runs a bound program: one block of memory, then call after call on the pool. */
#include "internal.h"

#include <string.h>

static long long show(int64_t value) { return (long long)value; }

/* One run: its memory and where things lie in it. */
typedef struct run {
    const rb_bound *bound;
    uint8_t *block;
    size_t block_bytes;
    uint8_t *scratch;
    size_t scratch_stride;
    uint8_t **pointers;      /* of all buffers */
    uint8_t **call_pointers; /* of the call at hand */
    int threads;
    int64_t commit; /* the first call that writes over an input; all calls: none does */
} run;

/* What a buffer without bytes points at: an address that can be computed with. */
static _Alignas(RB_ALIGNMENT) uint8_t nothing[RB_ALIGNMENT];

static int count_threads(const rb_options *options, int *threads, rb_error *error) {
    *threads = rb_num_threads();
    if (*threads < 0)
        return rb_fail(error, RB_ARGUMENT, "RABBET_NUM_THREADS is not a whole number from 1 to %d", RB_MAX_THREADS);
    if (options && options->threads < 0)
        return rb_fail(error, RB_ARGUMENT, "a run on %d threads was asked for", (int)options->threads);
    if (options && options->threads > 0 && options->threads < *threads)
        *threads = options->threads;
    return RB_OK;
}

static bool round_up(size_t *bytes) {
    if (__builtin_add_overflow(*bytes, (size_t)RB_LINE - 1, bytes))
        return false;
    *bytes &= ~((size_t)RB_LINE - 1);
    return true;
}

/* The block: arena, scratch of each thread, pointers. */
static int take_block(run *now, rb_error *error) {
    const rb_bound *bound = now->bound;
    const rb_program *program = bound->program;
    size_t arena = (size_t)bound->arena_bytes, stride = (size_t)bound->scratch_bytes, scratch = 0;
    size_t pointers = (size_t)(program->n_buffers + program->max_call_buffers) * sizeof(uint8_t *);
    if ((uint64_t)bound->arena_bytes > SIZE_MAX || (uint64_t)bound->scratch_bytes > SIZE_MAX ||
        !round_up(&arena) || !round_up(&stride) ||
        __builtin_mul_overflow(stride, (size_t)now->threads, &scratch) ||
        __builtin_add_overflow(arena, scratch, &now->block_bytes) ||
        __builtin_add_overflow(now->block_bytes, pointers, &now->block_bytes))
        return rb_fail(error, RB_ARITHMETIC, "an arena of %lld bytes and %d times %lld bytes of scratch overflow",
                       show(bound->arena_bytes), now->threads, show(bound->scratch_bytes));
    now->block = rb_memory_take(now->block_bytes);
    if (!now->block)
        return rb_fail(error, RB_MEMORY, "no memory for an arena of %lld bytes and %d times %lld bytes of scratch",
                       show(bound->arena_bytes), now->threads, show(bound->scratch_bytes));
    now->scratch = now->block + arena;
    now->scratch_stride = stride;
    now->pointers = (uint8_t **)(void *)(now->scratch + scratch);
    now->call_pointers = now->pointers + program->n_buffers;
    return RB_OK;
}

static int missing(const rb_buffer *buffer, int64_t bytes, rb_error *error) {
    return rb_fail(error, RB_ARGUMENT, "%s %lld is missing; it has %lld bytes",
                   buffer->kind == RB_INPUT ? "input" : "output", show(buffer->number), show(bytes));
}

static int resolve_pointers(run *now, void *const *inputs, void *const *outputs, rb_error *error) {
    const rb_program *program = now->bound->program;
    now->commit = program->n_calls;
    for (int64_t i = 0; i < program->n_buffers; i++) {
        const rb_buffer *buffer = &program->buffers[i];
        int64_t bytes = now->bound->buffer_bytes[i];
        uint8_t *pointer = NULL;
        if (buffer->kind == RB_ARENA)
            pointer = now->block + now->bound->offsets[i];
        else if (buffer->kind == RB_CONSTANT) /* kernels only read it; the plan says which operands */
            pointer = (uint8_t *)(uintptr_t)program->constants[buffer->number].data;
        else
            pointer = (buffer->kind == RB_INPUT ? inputs : outputs)[buffer->number];
        if (!pointer && bytes > 0)
            return missing(buffer, bytes, error);
        now->pointers[i] = pointer ? pointer : nothing;
        if (buffer->kind == RB_OUTPUT && pointer && buffer->alias >= 0 && now->pointers[buffer->alias] == pointer &&
            program->buffers[buffer->alias].kind == RB_INPUT)
            now->commit = program->commit_call;
    }
    return RB_OK;
}

static bool run_call(const run *now, int64_t i, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    const rb_bound *bound = now->bound;
    const rb_call *call = &bound->program->calls[i];
    for (int64_t k = 0; k < call->n_buffers; k++)
        now->call_pointers[k] = now->pointers[call->buffers[k]];
    if ((call->flags & RB_CALL_IS_COPY) && now->call_pointers[0] == now->call_pointers[1])
        return true;
    rb_work work = {.kernel = bound->program->kernels[call->kernel],
                    .buffers = now->call_pointers,
                    .sizes = bound->sizes + call->first_size,
                    .tasks = bound->tasks[i],
                    .cost = bound->costs[i],
                    .call = i,
                    .scratch = now->scratch,
                    .scratch_stride = now->scratch_stride,
                    .threads = now->threads};
    return work.tasks == 0 || rb_pool_run(&work, poller, status);
}

static int index_failure(const int64_t status[RB_STATUS_WORDS], bool committed, rb_error *error) {
    rb_fail(error, RB_INDEX, "call %lld met the index %lld, out of range of %lld, at element %lld", show(status[1]),
            show(status[3]), show(status[4]), show(status[2]));
    if (error) {
        error->committed = committed;
        error->call = status[1];
        error->element = status[2];
        error->value = status[3];
        error->extent = status[4];
    }
    return RB_INDEX;
}

/* All calls. A failure before the commit stops there; a later one is reported when all is done. */
static int run_calls(const run *now, rb_poller *poller, int64_t *profile, int64_t status[RB_STATUS_WORDS], rb_error *error) {
    const rb_program *program = now->bound->program;
    for (int64_t i = 0; i < program->n_calls; i++) {
        bool committed = i >= now->commit;
        int64_t start = profile ? rb_clock_ns() : 0;
        int64_t failure[RB_STATUS_WORDS] = {0};
        bool finished = run_call(now, i, committed ? NULL : poller, failure);
        if (profile)
            profile[i] = rb_clock_ns() - start;
        if (!finished)
            return rb_fail(error, RB_INTERRUPTED, "the run was interrupted in call %lld", show(i));
        if (failure[0] == 0 || status[0] != 0)
            continue;
        memcpy(status, failure, sizeof failure);
        if (!committed)
            return index_failure(status, false, error);
    }
    return status[0] ? index_failure(status, true, error) : RB_OK;
}

int rb_run(rb_bound *bound, void *const *inputs, void *const *outputs, const rb_options *options,
           rb_error *error) {
    run now = {.bound = bound};
    int64_t own_status[RB_STATUS_WORDS];
    int64_t *status = options && options->status ? options->status : own_status;
    memset(status, 0, sizeof own_status);
    int code = count_threads(options, &now.threads, error);
    if (code != RB_OK || (code = take_block(&now, error)) != RB_OK)
        return code;
    code = resolve_pointers(&now, inputs, outputs, error);
    if (code == RB_OK) {
        bool polls = options && options->poll;
        rb_float_state state = rb_float_enter();
        rb_poller poller = {.caller_state = state};
        if (polls) {
            poller.poll = options->poll;
            poller.context = options->context;
            poller.next_ns = rb_clock_ns() + RB_POLL_NS;
            poller.generation = rb_pool_generation();
        }
        code = run_calls(&now, polls ? &poller : NULL, options ? options->profile : NULL, status, error);
        rb_float_leave(state);
    }
    rb_memory_give(now.block, now.block_bytes);
    return code;
}
