/* Bindings: the last 16 are remembered, the least recently used falls out, those in use live on. */
#include "plan.h"

static rb_program *make_program(void) {
    static plan p;
    begin_plan(&p, (const int64_t[]){2, 3, 1, 1, 0, 1, 0, 0, 0}, 0);
    int64_t m = expr(&p, 1, 0, 0), n = expr(&p, 1, 1, 0), bytes = expr(&p, 4, m, n);
    put_all(&p, 2, (const int64_t[]){3, bytes}); /* bytes >= 0 */
    put_all(&p, 6, (const int64_t[]){RB_INPUT, 0, bytes, 0, 0, -1});
    end_plan(&p);
    rb_program *program = NULL;
    CHECK(rb_program_create(p.words, p.n, NULL, 0, NULL, 0, &program, NULL) == RB_OK);
    return program;
}

static rb_bound *bind(rb_program *program, int64_t m, int64_t n) {
    rb_bound *bound = NULL;
    CHECK(rb_program_bind(program, (const int64_t[]){m, n}, 2, &bound, NULL) == RB_OK);
    CHECK(rb_bound_bytes(bound, RB_INPUT, 0) == m * n);
    CHECK(rb_bound_bytes(bound, RB_INPUT, 1) == -1 && rb_bound_bytes(bound, RB_ARENA, 0) == -1);
    return bound;
}

static void test_remembered(void) {
    rb_program *program = make_program();
    rb_bound *first = bind(program, 1, 0), *second = bind(program, 1, 1), *again;
    for (int64_t n = 2; n < 16; n++)
        rb_bound_release(bind(program, 1, n));
    CHECK((again = bind(program, 1, 0)) == first); /* 16 fit; now `second` is the oldest */
    rb_bound_release(again);
    rb_bound_release(bind(program, 1, 16));
    CHECK((again = bind(program, 1, 0)) == first);
    rb_bound_release(again);
    again = bind(program, 1, 1); /* we still hold `second`, so a new one has another address */
    CHECK(again != second);
    rb_bound_release(again);
    rb_bound_release(second);
    rb_program_release(program);
    CHECK(rb_bound_bytes(first, RB_INPUT, 0) == 0); /* alive after its program */
    rb_bound_release(first);
}

static void test_failures_are_not_remembered(void) {
    rb_program *program = make_program();
    rb_bound *bound = NULL;
    rb_error error;
    for (int i = 0; i < 3; i++) {
        CHECK(rb_program_bind(program, (const int64_t[]){-1, 1}, 2, &bound, &error) == RB_GUARD);
        CHECK(!bound && error.code == RB_GUARD && error.value == 0);
        CHECK(rb_program_bind(program, (const int64_t[]){INT64_MAX, 2}, 2, &bound, &error) == RB_ARITHMETIC);
        CHECK(rb_program_bind(program, (const int64_t[]){1}, 1, &bound, &error) == RB_ARGUMENT && !bound);
    }
    rb_program_retain(program);
    rb_program_release(program);
    rb_bound_release(bind(program, 3, 4));
    rb_program_release(program);
}

static void test_missing_memory(void) {
    rb_program *program = make_program();
    rb_bound *none = bind(program, 0, 7);
    CHECK(rb_run(none, (void *const[]){NULL}, NULL, NULL, NULL) == RB_OK); /* it has no bytes and no calls */
    rb_bound *some = bind(program, 1, 7);
    rb_error error;
    CHECK(rb_run(some, (void *const[]){NULL}, NULL, NULL, &error) == RB_ARGUMENT);
    CHECK(strcmp(error.text, "input 0 is missing; it has 7 bytes") == 0);
    CHECK(rb_run(some, (void *const[]){&error}, NULL, &(rb_options){.threads = -1}, NULL) == RB_ARGUMENT);
    rb_bound_release(none);
    rb_bound_release(some);
    rb_program_release(program);
}

int main(void) {
    test_remembered();
    test_failures_are_not_remembered();
    test_missing_memory();
    rb_memory_trim();
    puts("bind: ok");
    return 0;
}
