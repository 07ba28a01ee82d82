/* The pool: every task once, on any number of threads; several callers; fork; polling; failures. */
#include "internal.h"
#include "plan.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 20000 };

/* out[i] = in[i] * 2 + 1 over int64; counts each visit in visits[i]. */
static void map(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                int64_t *status) {
    const int64_t *in = (const int64_t *)(void *)buffers[0];
    int64_t *out = (int64_t *)(void *)buffers[1];
    CHECK((uintptr_t)scratch % 64 == 0 && end <= sizes[0]);
    memset(scratch, (int)begin, 256); /* threads that shared scratch would race */
    for (int64_t i = begin; i < end; i++) {
        if (in[i] < 0 && status[0] == 0) {
            status[0] = 1;
            status[2] = i;
            status[3] = in[i];
            status[4] = 9;
        }
        out[i] = in[i] * 2 + 1;
    }
}

static atomic_bool hurry; /* slow tasks are quick from now on */

/* Some milliseconds for each task. */
static void slow(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                 int64_t *status) {
    (void)scratch;
    (void)status;
    for (int64_t task = begin; task < end; task++) {
        int64_t stop = rb_clock_ns() + sizes[0];
        while (!atomic_load(&hurry) && rb_clock_ns() < stop)
            ;
        ((int64_t *)(void *)buffers[0])[task]++;
    }
}

/* in -> arena -> out, with a cost that wakes threads. */
static rb_program *make_map(int64_t cost, int64_t commit) {
    static plan p;
    begin_plan(&p, (const int64_t[]){1, 6, 0, 3, 2, 1, 1, 0, 1}, commit);
    int64_t n = expr(&p, RB_SYMBOL, 0, 0), eight = expr(&p, RB_CONST, 8, 0), bytes = expr(&p, RB_MUL, n, eight);
    int64_t price = expr(&p, RB_CONST, cost, 0), scratch = expr(&p, RB_CONST, 256, 0);
    expr(&p, RB_MIN, n, eight);
    put_all(&p, 6, (const int64_t[]){RB_INPUT, 0, bytes, 0, 0, -1});
    put_all(&p, 6, (const int64_t[]){RB_ARENA, -1, bytes, 0, 1, -1});
    put_all(&p, 6, (const int64_t[]){RB_OUTPUT, 0, bytes, 1, 1, 0}); /* may be given the input's memory */
    put_all(&p, 10, (const int64_t[]){0, n, price, scratch, 1, 2, 1, 0, 1, n});
    put_all(&p, 10, (const int64_t[]){0, n, price, scratch, 1, 2, 1, 1, 2, n});
    end_plan(&p);
    static const rb_kernel kernels[] = {map};
    rb_program *program = NULL;
    rb_error error;
    CHECK(rb_program_create(p.words, p.n, kernels, 1, NULL, 0, &program, &error) == RB_OK);
    return program;
}

static rb_program *make_slow(int64_t task_ns, int64_t tasks, int64_t commit) {
    static plan p;
    begin_plan(&p, (const int64_t[]){0, 5, 0, 2, 1, 1, 1, 0, 1}, commit);
    int64_t n = expr(&p, RB_CONST, tasks, 0), bytes = expr(&p, RB_CONST, tasks * 8, 0);
    int64_t cost = expr(&p, RB_CONST, (int64_t)1 << 40, 0), zero = expr(&p, RB_CONST, 0, 0);
    int64_t wait = expr(&p, RB_CONST, task_ns, 0);
    put_all(&p, 6, (const int64_t[]){RB_INPUT, 0, zero, 0, 0, -1});
    put_all(&p, 6, (const int64_t[]){RB_OUTPUT, 0, bytes, 0, 0, 0});
    put_all(&p, 9, (const int64_t[]){0, n, cost, zero, 0, 1, 1, 1, wait});
    end_plan(&p);
    static const rb_kernel kernels[] = {slow};
    rb_program *program = NULL;
    rb_error error;
    CHECK(rb_program_create(p.words, p.n, kernels, 1, NULL, 0, &program, &error) == RB_OK);
    return program;
}

static rb_bound *bind_one(rb_program *program, int64_t n) {
    rb_bound *bound = NULL;
    rb_error error;
    CHECK(rb_program_bind(program, &n, (size_t)rb_program_symbols(program), &bound, &error) == RB_OK);
    return bound;
}

static void run_in(int64_t *in, int64_t *out, rb_bound *bound, int64_t n, int64_t first) {
    for (int64_t i = 0; i < n; i++) {
        in[i] = first + i;
        out[i] = 0;
    }
    rb_error error;
    CHECK(rb_run(bound, (void *const[]){in}, (void *const[]){out}, NULL, &error) == RB_OK);
    for (int64_t i = 0; i < n; i++)
        CHECK(out[i] == in[i] * 4 + 3);
}

static void run_and_check(rb_bound *bound, int64_t n, int64_t first) {
    int64_t *in = malloc((size_t)n * 8), *out = malloc((size_t)n * 8);
    CHECK(in && out);
    run_in(in, out, bound, n, first);
    free(in);
    free(out);
}

/* While somebody forks: a sanitizer's malloc does not know of forks, and would leave its locks held in the child. */
static void run_on_stack(rb_bound *bound, int64_t first) {
    int64_t in[N], out[N];
    run_in(in, out, bound, N, first);
}

static void test_sizes(void) {
    rb_program *program = make_map((int64_t)1 << 30, 2);
    for (int64_t n = 0; n < 70; n++) {
        rb_bound *bound = bind_one(program, n + 1);
        run_and_check(bound, n + 1, n);
        rb_bound_release(bound);
    }
    rb_program_release(program);
}

static void test_thread_counts(void) {
    rb_program *program = make_map((int64_t)1 << 22, 2);
    rb_bound *bound = bind_one(program, N);
    for (int round = 0; round < 40; round++) {
        CHECK(rb_set_num_threads(1 + round % 5) == RB_OK);
        for (int i = 0; i < 5; i++)
            run_and_check(bound, N, i);
        if (round % 8 == 7)
            CHECK(rb_shutdown() == RB_OK);
    }
    CHECK(rb_set_num_threads(257) == RB_ARGUMENT && rb_set_num_threads(-1) == RB_ARGUMENT);
    rb_bound_release(bound);
    rb_program_release(program);
}

static void *many_runs(void *argument) {
    for (int i = 0; i < 60; i++) {
        rb_bound *bound = bind_one(argument, 1000 + i % 20); /* more bindings than are remembered */
        run_and_check(bound, 1000 + i % 20, i);
        rb_bound_release(bound);
    }
    return NULL;
}

static void test_callers(void) {
    rb_program *program = make_map((int64_t)1 << 22, 2);
    pthread_t threads[4];
    CHECK(rb_set_num_threads(3) == RB_OK);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, many_runs, program) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    rb_program_release(program);
}

static void test_first_failure(void) {
    int64_t in[N] = {0}, out[N] = {0}, status[RB_STATUS_WORDS];
    rb_options options = {.status = status};
    rb_error error;
    for (int commit = 0; commit <= 2; commit++) {
        rb_program *program = make_map((int64_t)1 << 25, commit);
        rb_bound *bound = bind_one(program, N);
        for (int i = 0; i < 6; i++) {
            bool donated = i % 2 == 1; /* only then is there anything to commit */
            memset(in, 0, sizeof in);
            in[12345] = -7;
            in[17000] = -8;
            out[0] = 99;
            void *target = donated ? in : out;
            CHECK(rb_run(bound, (void *const[]){in}, (void *const[]){target}, &options, &error) == RB_INDEX);
            CHECK(error.call == 0 && error.element == 12345 && error.value == -7 && status[3] == -7 &&
                  error.extent == 9);
            CHECK(error.committed == (donated && commit == 0));
            CHECK(in[0] == (error.committed ? 3 : 0) && out[0] == 99);
        }
        rb_bound_release(bound);
        rb_program_release(program);
    }
}

static int polls;
static int stop_at_third(void *context) {
    (void)context;
    return ++polls == 3;
}

static void test_polling(void) {
    enum { TASKS = 40000 };
    static int64_t out[TASKS];
    rb_options options = {.poll = stop_at_third};
    rb_error error;
    rb_program *program = make_slow(1000000, TASKS, 1); /* half a minute if nothing stopped it */
    rb_bound *bound = bind_one(program, 0);
    int64_t start = rb_clock_ns();
    CHECK(rb_run(bound, (void *const[]){NULL}, (void *const[]){out}, &options, &error) == RB_INTERRUPTED);
    int64_t taken = rb_clock_ns() - start;
    CHECK(polls == 3 && taken > 140000000);
    int64_t done = 0; /* the pool is drained: nobody writes any more */
    for (int i = 0; i < TASKS; i++)
        done += out[i];
    CHECK(done < TASKS);
    usleep(20000);
    for (int i = 0; i < TASKS; i++)
        done -= out[i];
    CHECK(done == 0);
    rb_bound_release(bound);
    rb_program_release(program);
}

static void test_no_poll_after_commit(void) {
    int64_t out[200] = {0};
    rb_options options = {.poll = stop_at_third};
    polls = 0;
    rb_program *program = make_slow(1000000, 200, 0);
    rb_bound *bound = bind_one(program, 0);
    CHECK(rb_run(bound, (void *const[]){out}, (void *const[]){out}, &options, NULL) == RB_OK && polls == 0);
    for (int i = 0; i < 200; i++)
        CHECK(out[i] == 1);
    rb_bound_release(bound);
    rb_program_release(program);
}

static atomic_bool stop_background;
static void *background(void *argument) {
    while (!atomic_load(&stop_background))
        run_on_stack(argument, 0);
    return NULL;
}

/* Forks while another thread keeps pool and memory busy; the child computes, with threads of its own. */
static void test_fork(void) {
    rb_program *program = make_map((int64_t)1 << 22, 2);
    rb_bound *bound = bind_one(program, N);
    pthread_t thread;
    CHECK(rb_set_num_threads(3) == RB_OK);
    run_on_stack(bound, 1);
    CHECK(pthread_create(&thread, NULL, background, bound) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60); /* a child that hangs is killed, and that is seen */
            run_on_stack(bound, 2);
            run_on_stack(bound, 3);
            _exit(42);
        }
        int state = 0;
        CHECK(waitpid(child, &state, 0) == child);
        CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 42);
    }
    atomic_store(&stop_background, true);
    CHECK(pthread_join(thread, NULL) == 0);
    rb_bound_release(bound);
    rb_program_release(program);
}

static int fork_once(void *context) {
    int *child = context;
    if (*child < 0)
        *child = (int)fork();
    atomic_store(&hurry, true);
    return 0;
}

/* A fork inside a poll: the child's run lost its workers and must say so; the parent's finishes. */
static void test_fork_in_poll(void) {
    enum { TASKS = 40000 };
    static int64_t out[TASKS];
    int child = -1;
    rb_options options = {.poll = fork_once, .context = &child};
    rb_program *program = make_slow(1000000, TASKS, 1); /* until the poll, which forks */
    rb_bound *bound = bind_one(program, 0);
    int code = rb_run(bound, (void *const[]){NULL}, (void *const[]){out}, &options, NULL);
    if (child == 0) {
        code = code == RB_INTERRUPTED ? rb_run(bound, (void *const[]){NULL}, (void *const[]){out}, NULL, NULL) : -1;
        _exit(code == RB_OK ? 42 : 1);
    }
    int state = 0;
    CHECK(child > 0 && code == RB_OK && waitpid((pid_t)child, &state, 0) == child);
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 42);
    rb_bound_release(bound);
    rb_program_release(program);
}

int main(int argc, char **argv) {
    bool forks = argc < 2 || strcmp(argv[1], "--no-fork") != 0; /* ThreadSanitizer does not follow forks */
    test_sizes();
    test_thread_counts();
    test_callers();
    test_first_failure();
    CHECK(rb_set_num_threads(2) == RB_OK);
    test_polling();
    test_no_poll_after_commit();
    if (forks) {
        test_fork();
        test_fork_in_poll();
    }
    CHECK(rb_memory_live() == 0);
    rb_memory_trim();
    CHECK(rb_shutdown() == RB_OK);
    puts("pool: ok");
    return 0;
}
