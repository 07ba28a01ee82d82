/* Reads a plan and the plans inside it: checks every word before anything uses it, and keeps a copy. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const int64_t most_numbers = (int64_t)1 << 20; /* symbols, inputs, ...: far beyond any real plan */

#define BAD(...) rb_fail(error, RB_BAD_PROGRAM, __VA_ARGS__)

static long long show(int64_t value) { return (long long)value; }

static bool in_range(int64_t value, int64_t end) { return value >= 0 && value < end; }

static const char magic[8] = {'R', 'A', 'B', 'B', 'E', 'T', 'P', '1'};

static int64_t magic_word(void) {
    uint64_t word = 0;
    for (int i = 7; i >= 0; i--)
        word = word << 8 | (uint8_t)magic[i];
    return (int64_t)word;
}

static int read_header(rb_program *program, const int64_t *words, size_t n_words, size_t n_kernels,
                       size_t n_constants, rb_error *error) {
    if (n_words < RB_HEADER_WORDS)
        return BAD("plan: %zu words are fewer than a header", n_words);
    if (words[0] != magic_word())
        return BAD("plan: it does not begin with RABBETP1");
    if (words[1] != RB_PLAN_VERSION)
        return BAD("plan: version %lld, this runtime reads version %d", show(words[1]), RB_PLAN_VERSION);
    if (words[2] < 0 || (uint64_t)words[2] != n_words)
        return BAD("plan: its header says %lld words, it has %zu", show(words[2]), n_words);
    for (int i = 3; i <= 11; i++)
        if (!in_range(words[i], most_numbers))
            return BAD("plan: the count %lld in word %d is out of range", show(words[i]), i);
    if ((uint64_t)words[10] != n_constants)
        return BAD("plan: it has %lld constants, %zu were given", show(words[10]), n_constants);
    if ((uint64_t)words[11] != n_kernels)
        return BAD("plan: it has %lld kernels, %zu were given", show(words[11]), n_kernels);
    if (words[12] < 0 || words[12] > words[7])
        return BAD("plan: commit call %lld of %lld calls", show(words[12]), show(words[7]));
    if (!in_range(words[13], most_numbers))
        return BAD("plan: %lld bodies", show(words[13]));
    if (words[14] != 0 || words[15] != 0)
        return BAD("plan: the reserved words of the header are not zero");
    program->n_symbols = words[3];
    program->n_exprs = words[4];
    program->n_guards = words[5];
    program->n_buffers = words[6];
    program->n_calls = words[7];
    program->n_numbers[RB_INPUT] = words[8];
    program->n_numbers[RB_OUTPUT] = words[9];
    program->n_numbers[RB_CONSTANT] = words[10];
    program->n_kernels = words[11];
    program->commit_call = words[12];
    return RB_OK;
}

/* Points the program at its sections; `*rest` is the word after the buffers. */
static int read_sections(rb_program *program, int64_t n_words, int64_t *rest, rb_error *error) {
    int64_t exprs = RB_HEADER_WORDS;
    int64_t guards = exprs + program->n_exprs * RB_EXPR_WORDS;
    int64_t buffers = guards + program->n_guards * RB_GUARD_WORDS;
    *rest = buffers + program->n_buffers * RB_BUFFER_WORDS;
    if (*rest + program->n_calls * RB_CALL_WORDS > n_words)
        return BAD("plan: %lld words cannot hold what its header counts", show(n_words));
    /* These records are made of int64_t alone, so they lie in the words as they are. */
    program->exprs = (const rb_expr *)(program->words + exprs);
    program->guards = (const rb_guard *)(program->words + guards);
    program->buffers = (const rb_buffer *)(program->words + buffers);
    return RB_OK;
}

static int check_exprs(const rb_program *program, rb_error *error) {
    for (int64_t i = 0; i < program->n_exprs; i++) {
        const rb_expr *expr = &program->exprs[i];
        if (!in_range(expr->opcode, RB_OPCODES))
            return BAD("plan: expression %lld has opcode %lld", show(i), show(expr->opcode));
        if (expr->opcode == RB_CONST)
            continue;
        if (expr->opcode == RB_SYMBOL) {
            if (!in_range(expr->a, program->n_symbols))
                return BAD("plan: expression %lld names symbol %lld of %lld", show(i), show(expr->a),
                           show(program->n_symbols));
        } else if (!in_range(expr->a, i) || !in_range(expr->b, i)) {
            return BAD("plan: expression %lld has operands %lld and %lld, not earlier ones", show(i),
                       show(expr->a), show(expr->b));
        }
    }
    for (int64_t i = 0; i < program->n_guards; i++) {
        const rb_guard *guard = &program->guards[i];
        if (!in_range(guard->relation, 4) || !in_range(guard->expr, program->n_exprs))
            return BAD("plan: guard %lld has relation %lld and expression %lld", show(i),
                       show(guard->relation), show(guard->expr));
    }
    return RB_OK;
}

static int check_buffer(rb_program *program, int64_t i, rb_error *error) {
    const rb_buffer *buffer = &program->buffers[i];
    if (!in_range(buffer->kind, 4))
        return BAD("plan: buffer %lld is of kind %lld", show(i), show(buffer->kind));
    if (!in_range(buffer->bytes, program->n_exprs))
        return BAD("plan: buffer %lld has size expression %lld", show(i), show(buffer->bytes));
    if (buffer->kind == RB_ARENA) {
        if (buffer->number != -1)
            return BAD("plan: arena buffer %lld has number %lld", show(i), show(buffer->number));
        if (!in_range(buffer->first, program->n_calls) || !in_range(buffer->last, program->n_calls) ||
            buffer->first > buffer->last)
            return BAD("plan: arena buffer %lld lives from call %lld to %lld of %lld", show(i),
                       show(buffer->first), show(buffer->last), show(program->n_calls));
        program->n_numbers[RB_ARENA]++;
    } else if (!in_range(buffer->number, program->n_numbers[buffer->kind])) {
        return BAD("plan: buffer %lld has number %lld of %lld", show(i), show(buffer->number),
                   show(program->n_numbers[buffer->kind]));
    }
    program->roots[i] = i;
    if (buffer->alias == -1)
        return RB_OK;
    if (!in_range(buffer->alias, i))
        return BAD("plan: buffer %lld shares memory with %lld, not an earlier one", show(i),
                   show(buffer->alias));
    const rb_buffer *other = &program->buffers[buffer->alias];
    if (buffer->kind == RB_OUTPUT && other->kind == RB_INPUT) {
        /* A run may give it the input's memory; in the plan they are two buffers. */
        if (program->donors[buffer->number] == -1)
            program->donors[buffer->number] = other->number;
        return RB_OK;
    }
    if (other->kind != buffer->kind || other->number != buffer->number)
        return BAD("plan: buffer %lld shares memory with %lld, of another kind or number", show(i),
                   show(buffer->alias));
    program->roots[i] = program->roots[buffer->alias];
    return RB_OK;
}

static int check_call(const rb_program *program, int64_t i, const rb_call *call, rb_error *error) {
    bool control = call->flags & RB_CALL_CONTROL; /* its bodies are looked at when they have been read */
    if (!control && !in_range(call->kernel, program->n_kernels))
        return BAD("plan: call %lld names kernel %lld", show(i), show(call->kernel));
    if (!in_range(call->tasks, program->n_exprs) || !in_range(call->cost, program->n_exprs) ||
        !in_range(call->scratch, program->n_exprs))
        return BAD("plan: call %lld names an expression out of range", show(i));
    if (!in_range(call->flags, RB_CALL_FLAGS))
        return BAD("plan: call %lld has flags %lld", show(i), show(call->flags));
    for (int64_t k = 0; k < call->n_buffers; k++) {
        int64_t index = call->buffers[k];
        if (!in_range(index, program->n_buffers))
            return BAD("plan: call %lld names buffer %lld", show(i), show(index));
        const rb_buffer *buffer = &program->buffers[index];
        if (buffer->kind == RB_ARENA && (i < buffer->first || i > buffer->last))
            return BAD("plan: call %lld uses buffer %lld, which lives from call %lld to %lld", show(i),
                       show(index), show(buffer->first), show(buffer->last));
    }
    if ((call->flags & RB_CALL_IS_COPY) && call->n_buffers != 2)
        return BAD("plan: call %lld is a copy of %lld buffers", show(i), show(call->n_buffers));
    for (int64_t k = 0; k < call->n_sizes; k++)
        if (!in_range(call->sizes[k], program->n_exprs))
            return BAD("plan: call %lld has size expression %lld", show(i), show(call->sizes[k]));
    return RB_OK;
}

/* `*rest` is the word after the calls. */
static int read_calls(rb_program *program, int64_t at, int64_t n_words, int64_t *rest, rb_error *error) {
    for (int64_t i = 0; i < program->n_calls; i++) {
        if (n_words - at < RB_CALL_WORDS)
            return BAD("plan: call %lld is cut off", show(i));
        const int64_t *words = program->words + at;
        int64_t left = n_words - at - RB_CALL_WORDS;
        if (words[5] < 0 || words[5] > left || words[6] < 0 || words[6] > left - words[5])
            return BAD("plan: call %lld has %lld buffers and %lld sizes in %lld words", show(i),
                       show(words[5]), show(words[6]), show(left));
        rb_call *call = &program->calls[i];
        *call = (rb_call){.kernel = words[0], .tasks = words[1], .cost = words[2], .scratch = words[3],
                          .flags = words[4], .n_buffers = words[5], .n_sizes = words[6],
                          .buffers = words + RB_CALL_WORDS, .sizes = words + RB_CALL_WORDS + words[5],
                          .first_size = program->n_sizes};
        int code = check_call(program, i, call, error);
        if (code != RB_OK)
            return code;
        program->n_sizes += call->n_sizes;
        if (call->n_buffers > program->max_call_buffers)
            program->max_call_buffers = call->n_buffers;
        at += RB_CALL_WORDS + call->n_buffers + call->n_sizes;
    }
    *rest = at;
    return RB_OK;
}

static int keep_kernels(rb_program *program, const rb_kernel *kernels, const rb_constant *constants,
                        rb_error *error) {
    for (int64_t i = 0; i < program->n_kernels; i++) {
        if (!kernels[i])
            return rb_fail(error, RB_ARGUMENT, "kernel %lld has no address", show(i));
        program->kernels[i] = kernels[i];
    }
    for (int64_t i = 0; i < program->n_numbers[RB_CONSTANT]; i++) {
        if (constants[i].bytes < 0 || (!constants[i].data && constants[i].bytes > 0))
            return rb_fail(error, RB_ARGUMENT, "constant %lld has no address or a negative size", show(i));
        program->constants[i] = constants[i];
    }
    return RB_OK;
}

static void *array(int64_t n, size_t size) { return calloc(n > 0 ? (size_t)n : 1, size); }

/* What every plan is made with, and how deep the one at hand lies in others. */
typedef struct given {
    const rb_kernel *kernels;
    const rb_constant *constants;
    size_t n_kernels, n_constants;
    int depth;
} given;

static int make_program(const int64_t *words, size_t n_words, const given *with, rb_program **program,
                        rb_error *error);

/* The bodies from word `at` on: whole plans, one after the other, up to the end. */
static int read_bodies(rb_program *program, int64_t at, int64_t n_words, const given *with, rb_error *error) {
    const given inside = {.kernels = with->kernels, .n_kernels = with->n_kernels, .depth = with->depth + 1};
    int64_t count = program->words[13];
    if (count > 0 && inside.depth > RB_MOST_DEPTH)
        return BAD("plan: bodies lie more than %d deep", RB_MOST_DEPTH);
    for (; program->n_bodies < count; program->n_bodies++) {
        int64_t length = n_words - at < RB_HEADER_WORDS ? -1 : program->words[at + 2];
        if (length < RB_HEADER_WORDS || length > n_words - at)
            return BAD("plan: body %lld is cut off", show(program->n_bodies));
        rb_program **body = &program->bodies[program->n_bodies];
        int code = make_program(program->words + at, (size_t)length, &inside, body, error);
        if (code != RB_OK)
            return code;
        if ((*body)->n_symbols != program->n_symbols) {
            program->n_bodies++; /* it is there, and goes with the others */
            return BAD("plan: a body has other symbols");
        }
        at += length;
    }
    if (at != n_words)
        return BAD("plan: %lld words follow its end", show(n_words - at));
    for (int64_t i = 0; i < program->n_calls; i++) {
        const rb_call *call = &program->calls[i];
        int code = call->flags & RB_CALL_CONTROL ? rb_control_check(program, i, call, error) : RB_OK;
        if (code != RB_OK)
            return code;
    }
    return RB_OK;
}

static int read_plan(rb_program *program, const int64_t *words, size_t n_words, const given *with,
                     rb_error *error) {
    int64_t rest = 0;
    int code = read_header(program, words, n_words, with->n_kernels, with->n_constants, error);
    if (code != RB_OK)
        return code;
    /* Every record takes words, so nothing below is larger than the plan itself by more than a factor. */
    if ((code = read_sections(program, (int64_t)n_words, &rest, error)) != RB_OK)
        return code;
    program->words = array((int64_t)n_words, sizeof *words);
    program->calls = array(program->n_calls, sizeof *program->calls);
    program->roots = array(program->n_buffers, sizeof *program->roots);
    program->kernels = array(program->n_kernels, sizeof *program->kernels);
    program->constants = array(program->n_numbers[RB_CONSTANT], sizeof *program->constants);
    program->donors = array(program->n_numbers[RB_OUTPUT], sizeof *program->donors);
    int64_t n_bodies = words[13] <= (int64_t)n_words / RB_HEADER_WORDS ? words[13] : 0; /* 0: found out below */
    program->bodies = array(n_bodies, sizeof(rb_program *));
    if (!program->words || !program->calls || !program->roots || !program->kernels || !program->constants ||
        !program->donors || !program->bodies)
        return rb_fail(error, RB_MEMORY, "no memory for a plan of %zu words", n_words);
    memcpy(program->words, words, n_words * sizeof *words);
    memset(program->donors, -1, (size_t)program->n_numbers[RB_OUTPUT] * sizeof *program->donors);
    read_sections(program, (int64_t)n_words, &rest, error); /* now over our own copy */
    if ((code = check_exprs(program, error)) != RB_OK)
        return code;
    for (int64_t i = 0; i < program->n_buffers; i++)
        if ((code = check_buffer(program, i, error)) != RB_OK)
            return code;
    if ((code = read_calls(program, rest, (int64_t)n_words, &rest, error)) != RB_OK)
        return code;
    if (n_bodies != words[13])
        return BAD("plan: %zu words cannot hold %lld bodies", n_words, show(words[13]));
    if ((code = read_bodies(program, rest, (int64_t)n_words, with, error)) != RB_OK)
        return code;
    return keep_kernels(program, with->kernels, with->constants, error);
}

static void disown(rb_program *program) {
    if (atomic_fetch_sub(&program->owners, 1) != 1)
        return;
    for (int64_t i = 0; i < program->n_bodies; i++)
        rb_program_release(program->bodies[i]);
    free(program->bodies);
    free(program->donors);
    free(program->words);
    free(program->calls);
    free(program->roots);
    free(program->kernels);
    free(program->constants);
    free(program);
}

static int make_program(const int64_t *words, size_t n_words, const given *with, rb_program **program,
                        rb_error *error) {
    *program = NULL;
    rb_program *made = calloc(1, sizeof *made);
    if (!made)
        return rb_fail(error, RB_MEMORY, "no memory for a program");
    atomic_init(&made->handles, 1);
    atomic_init(&made->owners, 1);
    int code = read_plan(made, words, n_words, with, error);
    if (code != RB_OK)
        disown(made);
    else
        *program = made;
    return code;
}

int rb_program_create(const int64_t *words, size_t n_words, const rb_kernel *kernels, size_t n_kernels,
                      const rb_constant *constants, size_t n_constants, rb_program **program,
                      rb_error *error) {
    const given with = {kernels, constants, n_kernels, n_constants, 0};
    return make_program(words, n_words, &with, program, error);
}

void rb_program_retain(rb_program *program) { atomic_fetch_add(&program->handles, 1); }

void rb_program_release(rb_program *program) {
    if (!program || atomic_fetch_sub(&program->handles, 1) != 1)
        return;
    for (int i = 0; i < RB_BOUND_CACHE; i++) /* the last handle: nobody else can be binding */
        rb_bound_release(program->cache[i]);
    disown(program);
}

void rb_bound_retain(rb_bound *bound) { atomic_fetch_add(&bound->owners, 1); }

void rb_bound_release(rb_bound *bound) {
    if (!bound || atomic_fetch_sub(&bound->owners, 1) != 1)
        return;
    rb_program *program = bound->program;
    free(bound->symbols);
    free(bound->buffer_bytes);
    free(bound->offsets);
    for (int kind = 0; kind < 3; kind++)
        free(bound->number_bytes[kind]);
    free(bound->sizes);
    free(bound->tasks);
    free(bound->costs);
    for (int64_t i = 0; bound->bodies && i < program->n_bodies; i++)
        rb_bound_release(bound->bodies[i]);
    free(bound->bodies);
    free(bound);
    disown(program);
}

int64_t rb_program_count(const rb_program *program, int kind) {
    return in_range(kind, 4) ? program->n_numbers[kind] : -1;
}

int64_t rb_program_symbols(const rb_program *program) { return program->n_symbols; }

int64_t rb_program_calls(const rb_program *program) { return program->n_calls; }

int64_t rb_program_donor(const rb_program *program, int64_t output) {
    return in_range(output, program->n_numbers[RB_OUTPUT]) ? program->donors[output] : -1;
}
