/* What the calls that hold bodies look like.
 *
 * A body is a plan: its inputs and outputs are buffers of the call. The buffers of a call are, in order:
 *   cond:  the condition, the operands, the results. The bodies (for true, for false) take the operands
 *          and make the results.
 *   loop:  the state and what stays the same, the results, spare memory for each result, a flag. The test
 *          takes the first two and makes the flag; the body takes the same and makes the next state.
 */
#include "internal.h"

#define BAD(...) rb_fail(error, RB_BAD_PROGRAM, __VA_ARGS__)

static long long show(int64_t value) { return (long long)value; }

static bool is_written(const rb_program *program, int64_t buffer) {
    int64_t kind = program->buffers[buffer].kind;
    return kind == RB_ARENA || kind == RB_OUTPUT;
}

int rb_control_check(const rb_program *program, int64_t number, const rb_call *call, rb_error *error) {
    bool loop = call->flags & RB_CALL_LOOP;
    if ((loop && (call->flags & RB_CALL_COND)) || (call->flags & RB_CALL_IS_COPY) || call->n_sizes != 0)
        return BAD("plan: call %lld has flags %lld and %lld sizes", show(number), show(call->flags),
                   show(call->n_sizes));
    if (call->kernel < 0 || call->kernel >= program->n_bodies - 1)
        return BAD("plan: call %lld names bodies %lld and the next, of %lld", show(number), show(call->kernel),
                   show(program->n_bodies));
    const int64_t *first = program->bodies[call->kernel]->n_numbers;
    const int64_t *second = program->bodies[call->kernel + 1]->n_numbers;
    int64_t taken = second[RB_INPUT], made = second[RB_OUTPUT];
    bool agree = first[RB_INPUT] == taken && first[RB_OUTPUT] == (loop ? 1 : made) && (!loop || made <= taken);
    int64_t wanted = loop ? taken + 2 * made + 1 : 1 + taken + made;
    if (!agree || call->n_buffers != wanted)
        return BAD("plan: call %lld has %lld buffers, its bodies take %lld and %lld and make %lld and %lld",
                   show(number), show(call->n_buffers), show(first[RB_INPUT]), show(taken),
                   show(first[RB_OUTPUT]), show(made));
    for (int64_t i = loop ? taken : 1 + taken; i < wanted; i++)
        if (!is_written(program, call->buffers[i]))
            return BAD("plan: call %lld writes buffer %lld", show(number), show(call->buffers[i]));
    return RB_OK;
}

/* Whether `count` buffers of the call from `from` on have what a body needs as its inputs or outputs. */
static bool holds(const rb_bound *bound, const rb_call *call, int64_t from, int64_t count, int64_t body, int kind) {
    const int64_t *needed = bound->bodies[body]->number_bytes[kind];
    for (int64_t i = 0; i < count; i++)
        if (bound->buffer_bytes[call->buffers[from + i]] < needed[i])
            return false;
    return true;
}

int rb_control_bind(const rb_bound *bound, int64_t number, const rb_call *call, rb_error *error) {
    bool loop = call->flags & RB_CALL_LOOP;
    int64_t first = call->kernel, second = first + 1;
    const int64_t *counts = bound->program->bodies[second]->n_numbers;
    int64_t taken = counts[RB_INPUT], made = counts[RB_OUTPUT], operands = loop ? 0 : 1, results = operands + taken;
    int64_t flag = call->buffers[loop ? taken + 2 * made : 0];
    bool fits = bound->buffer_bytes[flag] >= 1 && holds(bound, call, operands, taken, first, RB_INPUT) &&
                holds(bound, call, operands, taken, second, RB_INPUT) &&
                holds(bound, call, results, made, second, RB_OUTPUT);
    if (!loop)
        fits = fits && holds(bound, call, results, made, first, RB_OUTPUT);
    else
        fits = fits && holds(bound, call, taken + 2 * made, 1, first, RB_OUTPUT);
    for (int64_t i = 0; loop && i < made; i++) { /* state, result and spare memory take turns */
        int64_t state = bound->buffer_bytes[call->buffers[i]];
        fits = fits && bound->buffer_bytes[call->buffers[taken + i]] == state &&
               bound->buffer_bytes[call->buffers[taken + made + i]] == state;
    }
    if (!fits)
        return rb_fail(error, RB_BAD_PROGRAM, "call %lld: a buffer is smaller than its bodies need", show(number));
    return RB_OK;
}
