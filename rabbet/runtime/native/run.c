/* Runs a bound program: one block of memory, then call after call on the pool. */
#include "internal.h"

#include <string.h>

static long long show(int64_t value) { return (long long)value; }

/* One run: what all its plans share. */
typedef struct run {
    uint8_t *scratch;
    size_t scratch_stride;
    int threads;
} run;

/* One plan at work: where its buffers are. The memory of the body that it runs lies behind its own. */
typedef struct frame {
    const run *now;
    const rb_bound *bound;
    uint8_t *block;
    uint8_t **pointers;      /* of all buffers */
    uint8_t **call_pointers; /* of the call at hand */
    int64_t commit;          /* the first call that writes over an input; all calls: none does */
} frame;

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

/* The block: the plan's memory, and scratch of each thread; sets how many bytes were taken. */
static int take_block(run *now, const rb_bound *bound, uint8_t **block, size_t *bytes, rb_error *error) {
    size_t frame_bytes = (size_t)bound->frame_bytes, stride = (size_t)bound->scratch_bytes, scratch = 0;
    if ((uint64_t)bound->frame_bytes > SIZE_MAX || (uint64_t)bound->scratch_bytes > SIZE_MAX ||
        __builtin_add_overflow(stride, (size_t)RB_LINE - 1, &stride) ||
        __builtin_mul_overflow(stride &= ~((size_t)RB_LINE - 1), (size_t)now->threads, &scratch) ||
        __builtin_add_overflow(frame_bytes, scratch, bytes))
        return rb_fail(error, RB_ARITHMETIC, "an arena of %lld bytes and %d times %lld bytes of scratch overflow",
                       show(bound->frame_bytes), now->threads, show(bound->scratch_bytes));
    *block = rb_memory_take_room(bytes);
    if (!*block)
        return rb_fail(error, RB_MEMORY, "no memory for an arena of %lld bytes and %d times %lld bytes of scratch",
                       show(bound->frame_bytes), now->threads, show(bound->scratch_bytes));
    now->scratch = *block + frame_bytes;
    now->scratch_stride = stride;
    return RB_OK;
}

static int missing(const rb_buffer *buffer, int64_t bytes, rb_error *error) {
    return rb_fail(error, RB_ARGUMENT, "%s %lld is missing; it has %lld bytes",
                   buffer->kind == RB_INPUT ? "input" : "output", show(buffer->number), show(bytes));
}

static int resolve_pointers(frame *at, void *const *inputs, void *const *outputs, rb_error *error) {
    const rb_program *program = at->bound->program;
    at->commit = program->n_calls;
    for (int64_t i = 0; i < program->n_buffers; i++) {
        const rb_buffer *buffer = &program->buffers[i];
        int64_t bytes = at->bound->buffer_bytes[i];
        uint8_t *pointer = NULL;
        if (buffer->kind == RB_ARENA)
            pointer = at->block + at->bound->offsets[i];
        else if (buffer->kind == RB_CONSTANT) /* kernels only read it; the plan says which operands */
            pointer = (uint8_t *)(uintptr_t)program->constants[buffer->number].data;
        else
            pointer = (buffer->kind == RB_INPUT ? inputs : outputs)[buffer->number];
        if (!pointer && bytes > 0)
            return missing(buffer, bytes, error);
        at->pointers[i] = pointer ? pointer : nothing;
        if (buffer->kind == RB_OUTPUT && pointer && buffer->alias >= 0 && at->pointers[buffer->alias] == pointer &&
            program->buffers[buffer->alias].kind == RB_INPUT)
            at->commit = program->commit_call;
    }
    return RB_OK;
}

/* False: the poller stopped it. */
static bool run_kernel(const frame *at, int64_t i, rb_poller *poller, int64_t status[RB_STATUS_WORDS]) {
    const rb_bound *bound = at->bound;
    const rb_call *call = &bound->program->calls[i];
    for (int64_t k = 0; k < call->n_buffers; k++)
        at->call_pointers[k] = at->pointers[call->buffers[k]];
    if ((call->flags & RB_CALL_IS_COPY) && at->call_pointers[0] == at->call_pointers[1])
        return true;
    rb_work work = {.kernel = bound->program->kernels[call->kernel],
                    .buffers = at->call_pointers,
                    .sizes = bound->sizes + call->first_size,
                    .tasks = bound->tasks[i],
                    .cost = bound->costs[i],
                    .call = i,
                    .scratch = at->now->scratch,
                    .scratch_stride = at->now->scratch_stride,
                    .threads = at->now->threads};
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

static int run_plan(const run *now, const rb_bound *bound, uint8_t *block, void *const *inputs,
                    void *const *outputs, rb_poller *poller, int64_t *profile, int64_t status[RB_STATUS_WORDS],
                    rb_error *error);

/* Runs body `number` of a plan in the memory behind the plan's own. */
static int run_body(const frame *at, int64_t number, uint8_t **inputs, uint8_t **outputs, rb_poller *poller,
                    int64_t status[RB_STATUS_WORDS], rb_error *error) {
    return run_plan(at->now, at->bound->bodies[number], at->block + at->bound->inner_at, (void *const *)inputs,
                    (void *const *)outputs, poller, NULL, status, error);
}

static int run_cond(const frame *at, const rb_call *call, rb_poller *poller, int64_t status[RB_STATUS_WORDS],
                    rb_error *error) {
    int64_t taken = at->bound->program->bodies[call->kernel]->n_numbers[RB_INPUT];
    uint8_t **pointers = at->call_pointers;
    for (int64_t k = 0; k < call->n_buffers; k++)
        pointers[k] = at->pointers[call->buffers[k]];
    return run_body(at, call->kernel + (*pointers[0] ? 0 : 1), pointers + 1, pointers + 1 + taken, poller, status, error);
}

/* State k is in the operand at first, then in its result or its spare memory by turns; a body that may write
 * it over itself does. In the end the result has it. */
static int run_loop(const frame *at, const rb_call *call, rb_poller *poller, int64_t status[RB_STATUS_WORDS],
                    rb_error *error) {
    const rb_bound *bound = at->bound;
    const rb_program *body = bound->program->bodies[call->kernel + 1];
    int64_t taken = body->n_numbers[RB_INPUT], made = body->n_numbers[RB_OUTPUT];
    const int64_t *results = call->buffers + taken, *spares = results + made;
    uint8_t **inputs = at->call_pointers, **outputs = inputs + taken, **flag = inputs + taken + made;
    for (int64_t k = 0; k < taken; k++)
        inputs[k] = at->pointers[call->buffers[k]];
    *flag = at->pointers[spares[made]];
    for (bool first = true;; first = false) {
        int code = run_body(at, call->kernel, inputs, flag, poller, status, error);
        if (code != RB_OK)
            return code;
        if (!**flag)
            break;
        for (int64_t k = 0; k < made; k++) {
            bool turn = first || inputs[k] != at->pointers[results[k]];
            outputs[k] = at->pointers[turn ? results[k] : spares[k]];
            if (!first && body->donors[k] == k)
                outputs[k] = inputs[k];
        }
        if ((code = run_body(at, call->kernel + 1, inputs, outputs, poller, status, error)) != RB_OK)
            return code;
        memcpy(inputs, outputs, (size_t)made * sizeof *inputs);
        if (rb_poll(poller, 0))
            return rb_fail(error, RB_INTERRUPTED, "the run was interrupted in a loop");
    }
    for (int64_t k = 0; k < made; k++)
        if (inputs[k] != at->pointers[results[k]])
            memcpy(at->pointers[results[k]], inputs[k], (size_t)bound->buffer_bytes[results[k]]);
    return RB_OK;
}

/* One call; RB_INDEX leaves what failed in `status`. */
static int run_call(const frame *at, int64_t i, rb_poller *poller, int64_t status[RB_STATUS_WORDS], rb_error *error) {
    const rb_call *call = &at->bound->program->calls[i];
    if (call->flags & RB_CALL_CONTROL) {
        int code = (call->flags & RB_CALL_LOOP ? run_loop : run_cond)(at, call, poller, status, error);
        status[1] = i; /* for whoever looks from outside, the control call failed */
        return code;
    }
    if (!run_kernel(at, i, poller, status))
        return rb_fail(error, RB_INTERRUPTED, "the run was interrupted in call %lld", show(i));
    return status[0] ? RB_INDEX : RB_OK;
}

/* All calls. A failure before the commit stops there; a later one is reported when all is done. */
static int run_calls(const frame *at, rb_poller *poller, int64_t *profile, int64_t status[RB_STATUS_WORDS], rb_error *error) {
    const rb_program *program = at->bound->program;
    for (int64_t i = 0; i < program->n_calls; i++) {
        bool committed = i >= at->commit;
        int64_t start = profile ? rb_clock_ns() : 0;
        int64_t failure[RB_STATUS_WORDS] = {0};
        int code = run_call(at, i, committed ? NULL : poller, failure, error);
        if (profile)
            profile[i] = rb_clock_ns() - start;
        if (code != RB_OK && code != RB_INDEX)
            return code;
        if (code == RB_OK || status[0] != 0)
            continue;
        memcpy(status, failure, sizeof failure);
        if (!committed)
            return index_failure(status, false, error);
    }
    return status[0] ? index_failure(status, true, error) : RB_OK;
}

static int run_plan(const run *now, const rb_bound *bound, uint8_t *block, void *const *inputs,
                    void *const *outputs, rb_poller *poller, int64_t *profile, int64_t status[RB_STATUS_WORDS],
                    rb_error *error) {
    uint8_t **pointers = (uint8_t **)(void *)(block + bound->pointers_at);
    frame at = {.now = now, .bound = bound, .block = block, .pointers = pointers,
                .call_pointers = pointers + bound->program->n_buffers};
    int code = resolve_pointers(&at, inputs, outputs, error);
    return code == RB_OK ? run_calls(&at, poller, profile, status, error) : code;
}

int rb_run(rb_bound *bound, void *const *inputs, void *const *outputs, const rb_options *options,
           rb_error *error) {
    run now = {0};
    uint8_t *block = NULL;
    size_t block_bytes = 0;
    int64_t own_status[RB_STATUS_WORDS];
    int64_t *status = options && options->status ? options->status : own_status;
    memset(status, 0, sizeof own_status);
    int code = count_threads(options, &now.threads, error);
    if (code != RB_OK || (code = take_block(&now, bound, &block, &block_bytes, error)) != RB_OK)
        return code;
    bool polls = options && options->poll;
    rb_float_state state = rb_float_enter();
    rb_poller poller = {.caller_state = state};
    if (polls) {
        poller.poll = options->poll;
        poller.context = options->context;
        poller.next_ns = rb_clock_ns() + RB_POLL_NS;
        poller.generation = rb_pool_generation();
    }
    code = run_plan(&now, bound, block, inputs, outputs, polls ? &poller : NULL, options ? options->profile : NULL,
                    status, error);
    rb_float_leave(state);
    rb_memory_give(block, block_bytes);
    return code;
}
