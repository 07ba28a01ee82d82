/* Calls that run bodies: a loop with a choice inside gives what it should, stops when it is told to, and
 * plans with random words changed never make it leave its memory. */
#include "internal.h"
#include "plan.h"

enum { ROUNDS = 60000, MOST_BYTES = 1 << 16 };

/* ---- a loop that counts: while x < limit: x += 1 where x is even, else 3 ------------------------------- */

static int64_t limit;

static void is_below(uint8_t *const *b, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                     int64_t *status) {
    (void)sizes, (void)begin, (void)end, (void)scratch, (void)status;
    *b[1] = *(const int64_t *)(const void *)b[0] < limit;
}

static void is_even(uint8_t *const *b, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                    int64_t *status) {
    (void)sizes, (void)begin, (void)end, (void)scratch, (void)status;
    *b[1] = *(const int64_t *)(const void *)b[0] % 2 == 0;
}

/* out = in + sizes[0]; fails at 1000. */
static void add(uint8_t *const *b, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                int64_t *status) {
    (void)begin, (void)end, (void)scratch;
    int64_t x = *(const int64_t *)(const void *)b[0];
    *(int64_t *)(void *)b[1] = x + sizes[0];
    if (x == 1000) {
        status[0] = 1;
        status[2] = 0;
        status[3] = x;
        status[4] = 1000;
    }
}

static void put_plan(plan *p, const plan *body) {
    put_all(p, (int)body->n, body->words);
    p->words[13]++;
}

/* One kernel call from input 0 to output 0; `bytes` of the output. */
static void make_body(plan *p, int64_t kernel, int64_t bytes, int64_t size) {
    begin_plan(p, (const int64_t[]){1, 4, 0, 2, 1, 1, 1, 0, 3}, 1);
    int64_t eight = expr(p, RB_CONST, 8, 0), out = expr(p, RB_CONST, bytes, 0);
    int64_t one = expr(p, RB_CONST, 1, 0), last = expr(p, RB_CONST, size, 0);
    put_all(p, 6, (const int64_t[]){RB_INPUT, 0, eight, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_OUTPUT, 0, out, 0, 0, -1});
    put_all(p, 7 + 2 + 1, (const int64_t[]){kernel, one, one, eight, RB_CALL_CAN_FAIL, 2, 1, 0, 1, last});
    end_plan(p);
}

/* The body of the loop: a flag in the arena, and the choice it makes. */
static void make_step(plan *p, int64_t alias) {
    plan then, orelse;
    make_body(&then, 2, 8, 1);
    make_body(&orelse, 2, 8, 3);
    begin_plan(p, (const int64_t[]){1, 2, 0, 3, 2, 1, 1, 0, 3}, 2);
    int64_t eight = expr(p, RB_CONST, 8, 0), one = expr(p, RB_CONST, 1, 0);
    put_all(p, 6, (const int64_t[]){RB_INPUT, 0, eight, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_ARENA, -1, one, 0, 1, -1});
    put_all(p, 6, (const int64_t[]){RB_OUTPUT, 0, eight, 1, 1, alias});
    put_all(p, 7 + 2 + 1, (const int64_t[]){1, one, one, one, 0, 2, 1, 0, 1, one});
    put_all(p, 7 + 3, (const int64_t[]){0, one, one, one, RB_CALL_COND, 3, 0, 1, 0, 2});
    put_plan(p, &then);
    put_plan(p, &orelse);
    end_plan(p);
}

static void make_loop(plan *p, int64_t alias) {
    plan test, step;
    make_body(&test, 0, 1, 0);
    make_step(&step, alias);
    begin_plan(p, (const int64_t[]){1, 4, 0, 4, 1, 1, 1, 0, 3}, 1);
    expr(p, RB_SYMBOL, 0, 0);
    int64_t eight = expr(p, RB_CONST, 8, 0), one = expr(p, RB_CONST, 1, 0), none = expr(p, RB_CONST, 0, 0);
    put_all(p, 6, (const int64_t[]){RB_INPUT, 0, eight, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_OUTPUT, 0, eight, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_ARENA, -1, eight, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_ARENA, -1, one, 0, 0, -1});
    put_all(p, 7 + 4, (const int64_t[]){0, one, none, none, RB_CALL_LOOP, 4, 0, 0, 1, 2, 3});
    put_plan(p, &test);
    put_plan(p, &step);
    end_plan(p);
}

static int64_t expected(int64_t x) {
    while (x < limit)
        x += x % 2 == 0 ? 1 : 3;
    return x;
}

static int stop_at_once(void *context) {
    ++*(int *)context;
    return 1;
}

static void test_counts(int64_t alias) {
    static const rb_kernel kernels[] = {is_below, is_even, add};
    static plan p;
    make_loop(&p, alias);
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_error error = {0};
    const int64_t symbol = 4;
    CHECK(rb_program_create(p.words, p.n, kernels, 3, NULL, 0, &program, &error) == RB_OK);
    CHECK(rb_program_bind(program, &symbol, 1, &bound, &error) == RB_OK);
    CHECK(rb_bound_cost(bound) == INT64_MAX);
    int64_t x = 0, y = 0;
    void *inputs[] = {&x}, *outputs[] = {&y};
    limit = 100;
    for (x = 60; x < 110; x++) {
        int64_t before = x;
        CHECK(rb_run(bound, inputs, outputs, NULL, &error) == RB_OK);
        CHECK(y == expected(x) && x == before);
    }
    limit = 2000; /* call 2 of the body's body fails: from outside it is call 0 */
    x = 999;
    CHECK(rb_run(bound, inputs, outputs, NULL, &error) == RB_OK); /* goes by odd numbers: 999, 1002, ... */
    x = 1000;
    CHECK(rb_run(bound, inputs, outputs, NULL, &error) == RB_INDEX);
    CHECK(error.call == 0 && error.value == 1000 && error.extent == 1000 && !error.committed);
    limit = INT64_MAX; /* never ends by itself within a lifetime */
    x = 2000;
    int asked = 0;
    const rb_options options = {.poll = stop_at_once, .context = &asked};
    CHECK(rb_run(bound, inputs, outputs, &options, &error) == RB_INTERRUPTED && asked == 1 && error.text[0]);
    rb_bound_release(bound);
    rb_program_release(program);
}

static void refuse(const plan *p, const char *text) {
    static const rb_kernel kernels[] = {is_below, is_even, add};
    const int64_t symbol = 4;
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_error error = {0};
    int code = rb_program_create(p->words, p->n, kernels, 3, NULL, 0, &program, &error);
    if (code == RB_OK)
        code = rb_program_bind(program, &symbol, 1, &bound, &error);
    CHECK(code == RB_BAD_PROGRAM);
    if (!strstr(error.text, text))
        fprintf(stderr, "%s\n", error.text);
    CHECK(strstr(error.text, text));
    rb_program_release(program);
}

static void test_refusals(void) {
    static plan good, bad, deep;
    make_loop(&good, -1);
    int64_t exprs = RB_HEADER_WORDS, buffers = exprs + 4 * 3, call = buffers + 4 * 6;
    bad = good, bad.words[call] = 1, refuse(&bad, "names bodies 1 and the next, of 2");
    bad = good, bad.words[call + 4] |= RB_CALL_COND, refuse(&bad, "has flags 12");
    bad = good, bad.words[call + 4] = RB_CALL_COND, refuse(&bad, "its bodies take 1 and 1");
    bad = good, bad.words[call + 8] = 0, refuse(&bad, "writes buffer 0");
    bad = good, bad.words[buffers + 2 * 6 + 2] = 2, refuse(&bad, "smaller than its bodies need");
    bad = good, bad.words[buffers + 2] = 0, bad.words[exprs + 3 + 1] = 7, refuse(&bad, "smaller than its bodies need");
    bad = good, bad.words[13] = 1, refuse(&bad, "words follow its end");
    bad = good, bad.words[13] = 3, refuse(&bad, "body 2 is cut off");
    bad = good, bad.words[13] = 1 << 19, refuse(&bad, "cannot hold");
    bad = good, bad.words[call + 11 + 3] = 0, refuse(&bad, "a body has other symbols");
    begin_plan(&deep, (const int64_t[]){0, 0, 0, 0, 0, 0, 0, 0, 3}, 0);
    end_plan(&deep);
    for (int depth = 0; depth < 70; depth++) {
        begin_plan(&bad, (const int64_t[]){0, 0, 0, 0, 0, 0, 0, 0, 3}, 0);
        put_plan(&bad, &deep);
        end_plan(&bad);
        deep = bad;
    }
    refuse(&deep, "more than 64 deep");
}

/* ---- hostile plans ------------------------------------------------------------------------------------- */

static rb_bound *current;
static uint64_t touched, seed = 5;

/* Which call has these sizes: the bound body it belongs to, or NULL. */
static const rb_bound *owner_of(const rb_bound *bound, const int64_t *sizes, int64_t number) {
    const rb_program *program = bound->program;
    if (number < program->n_calls && program->calls[number].n_sizes > 0 &&
        bound->sizes + program->calls[number].first_size == sizes)
        return bound;
    for (int64_t i = 0; i < program->n_bodies; i++) {
        const rb_bound *found = owner_of(bound->bodies[i], sizes, number);
        if (found)
            return found;
    }
    return NULL;
}

static void touch(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                  int64_t *status) {
    (void)begin, (void)end;
    const rb_bound *bound = owner_of(current, sizes, status[1]);
    memset(scratch, 1, (size_t)current->scratch_bytes);
    if (!bound)
        return;
    const rb_call *call = &bound->program->calls[status[1]];
    for (int64_t i = 0; i < call->n_buffers; i++) {
        int64_t bytes = bound->buffer_bytes[call->buffers[i]], kind = bound->program->buffers[call->buffers[i]].kind;
        if (kind == RB_ARENA || kind == RB_OUTPUT)
            memset(buffers[i], (int)(next_random(&seed) % 2), (size_t)bytes);
        for (int64_t k = 0; k < bytes; k++)
            touched += buffers[i][k];
    }
}

static int64_t most_of(const rb_bound *bound) {
    int64_t most = bound->frame_bytes | bound->scratch_bytes;
    for (int kind = 0; kind < 3; kind++)
        for (int64_t i = 0; i < bound->program->n_numbers[kind]; i++)
            most |= bound->number_bytes[kind][i];
    for (int64_t i = 0; i < bound->program->n_calls; i++)
        most |= bound->tasks[i];
    for (int64_t i = 0; i < bound->program->n_bodies; i++)
        most |= most_of(bound->bodies[i]);
    return most;
}

static void run_exactly(rb_bound *bound) {
    void *memory[2][64] = {{NULL}};
    for (int kind = 0; kind < 2; kind++)
        for (int64_t i = 0; i < rb_program_count(bound->program, kind); i++) {
            int64_t bytes = rb_bound_bytes(bound, kind, i);
            CHECK(bytes == 0 || (memory[kind][i] = calloc((size_t)bytes, 1)) != NULL);
        }
    rb_error error;
    int asked = 0;
    const rb_options options = {.poll = stop_at_once, .context = &asked};
    current = bound;
    int code = rb_run(bound, memory[0], memory[1], &options, &error);
    CHECK(code == RB_OK || code == RB_MEMORY || code == RB_INTERRUPTED);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < 64; i++)
            free(memory[kind][i]);
}

/* What became of it: 0 refused at creation, 1 refused at binding, 2 run (or too large to). */
static int try_plan(const plan *p) {
    static const rb_kernel kernels[] = {touch, touch, touch};
    const int64_t symbol = 8;
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_error error = {0};
    int64_t *exact = malloc(p->n * sizeof *exact + 1); /* so that reading past the end is seen */
    CHECK(exact);
    memcpy(exact, p->words, p->n * sizeof *exact);
    int code = rb_program_create(exact, p->n, kernels, 3, NULL, 0, &program, &error);
    free(exact);
    if (code != RB_OK) {
        CHECK(!program && error.code == code && error.text[0]);
        return 0;
    }
    code = rb_program_bind(program, &symbol, (size_t)rb_program_symbols(program) == 1, &bound, &error);
    if (code == RB_OK && most_of(bound) < MOST_BYTES && rb_program_count(program, RB_INPUT) < 64 &&
        rb_program_count(program, RB_OUTPUT) < 64)
        run_exactly(bound);
    rb_bound_release(bound);
    rb_program_release(program);
    return code == RB_OK ? 2 : 1;
}

static void test_hostile(void) {
    static const int64_t interesting[] = {0, 1, -1, 2, 3, 4, 7, 8, 9, 16, INT64_MAX, INT64_MIN, (int64_t)1 << 32};
    static plan good, bad;
    int64_t outcomes[3] = {0};
    make_loop(&good, 0);
    for (int i = 0; i < 100; i++)
        CHECK(try_plan(&good) == 2);
    CHECK(touched > 100);
    for (int round = 0; round < ROUNDS; round++) {
        bad = good;
        for (uint64_t i = 0; i <= next_random(&seed) % 2; i++) {
            int64_t *word = &bad.words[next_random(&seed) % bad.n];
            if (next_random(&seed) % 2)
                *word = interesting[next_random(&seed) % (sizeof interesting / sizeof *interesting)];
            else
                *word = bad.words[next_random(&seed) % bad.n];
        }
        outcomes[try_plan(&bad)]++;
    }
    for (int i = 0; i < 3; i++)
        CHECK(outcomes[i] > ROUNDS / 100);
}

int main(void) {
    test_counts(-1);
    test_counts(0); /* the step may write its state over itself */
    test_refusals();
    test_hostile();
    CHECK(rb_memory_live() == 0);
    rb_memory_trim();
    CHECK(rb_shutdown() == RB_OK);
    puts("control: ok");
    return 0;
}
