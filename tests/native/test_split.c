/* The division of a launch over 64 threads, played through without any thread: pool.c's own arithmetic. */
#include "../../rabbet/runtime/native/pool.c"

#include "plan.h"

enum { THREADS = 64 };

static int64_t done[1 << 16];

static void count(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                  int64_t *status) {
    (void)buffers, (void)sizes, (void)scratch, (void)status;
    for (int64_t task = begin; task < end; task++)
        done[task]++;
}

/* Takes the next chunk for a thread, its own or another's; false: there is none. */
static bool take_one(const job *the_job, int thread) {
    for (int i = 0; i < the_job->threads; i++) {
        slot *from = &the_job->slots[(thread + i) % the_job->threads];
        if (atomic_load(&from->next) < from->end) {
            run_chunk(the_job, atomic_fetch_add(&from->next, 1), thread);
            return true;
        }
    }
    return false;
}

/* Turns until nothing is left, thread t doing a chunk each pace[t] turns (0: it never comes). */
static int64_t play(const job *the_job, const int *pace) {
    int64_t turns = 0;
    for (bool left = true; left; turns++) {
        left = false;
        for (int t = 0; t < the_job->threads; t++)
            if (pace[t] > 0 && turns % pace[t] == 0)
                left |= take_one(the_job, t);
    }
    return turns - 1;
}

static job divide(const rb_work *work) {
    static slot slots[THREADS];
    job made = make_job(work, slots, THREADS);
    memset(done, 0, sizeof done);
    fill_slots(&made);
    return made;
}

static void check_once(int64_t tasks) {
    for (int64_t i = 0; i < tasks; i++)
        CHECK(done[i] == 1);
    CHECK(done[tasks] == 0);
}

static void test_equal_threads(void) {
    int pace[THREADS];
    for (int t = 0; t < THREADS; t++)
        pace[t] = 1;
    for (int64_t tasks = THREADS; tasks < 5000; tasks += 37) {
        rb_work work = {.kernel = count, .tasks = tasks, .cost = (int64_t)1 << 24, .threads = THREADS};
        job made = divide(&work);
        CHECK(made.chunks == (tasks < 4 * THREADS ? tasks : 4 * THREADS));
        CHECK(play(&made, pace) == (made.chunks + THREADS - 1) / THREADS); /* nobody waits longer than a chunk */
        check_once(tasks);
    }
}

static void test_slow_and_absent_threads(void) {
    int pace[THREADS];
    rb_work work = {.kernel = count, .tasks = 4096, .cost = (int64_t)1 << 26, .threads = THREADS};
    for (int t = 0; t < THREADS; t++)
        pace[t] = t % 16 == 3 ? 2 : 1; /* four are half as fast */
    job made = divide(&work);
    CHECK(play(&made, pace) <= 5); /* 4 if all were equal, 8 if nobody helped */
    check_once(4096);
    for (int t = 0; t < THREADS; t++)
        pace[t] = t < 40; /* 24 never wake */
    made = divide(&work);
    CHECK(play(&made, pace) <= 7); /* 256 chunks by 40 threads */
    check_once(4096);
}

static void test_polling_is_in_time(void) {
    rb_work work = {.kernel = count, .tasks = 60000, .cost = (int64_t)1 << 36, .threads = THREADS};
    job made = divide(&work);
    CHECK(made.chunk_cost <= cost_per_chunk && made.chunks < work.tasks);
    work.cost = (int64_t)1 << 40;
    made = divide(&work);
    CHECK(made.chunks == work.tasks);
    work.tasks = 10;
    made = divide(&work);
    CHECK(made.chunks == 10); /* a task is never cut */
}

/* A run's tasks differ by one at most from another's, whatever chunks they are cut into. */
static void test_runs_are_equal(void) {
    for (int64_t tasks = THREADS; tasks < 3000; tasks += 7) {
        rb_work work = {.kernel = count, .tasks = tasks, .cost = (int64_t)1 << 24, .threads = THREADS};
        job made = divide(&work);
        if (made.chunks % THREADS != 0)
            continue; /* each is one task */
        for (int t = 0; t < THREADS; t++) {
            int64_t begin = first_task(&made, atomic_load(&made.slots[t].next));
            int64_t own = first_task(&made, made.slots[t].end) - begin;
            CHECK(own == tasks / THREADS || own == (tasks + THREADS - 1) / THREADS);
        }
    }
    rb_work most = {.tasks = INT64_MAX, .cost = INT64_MAX, .threads = THREADS};
    static slot slots[THREADS];
    job made = make_job(&most, slots, THREADS);
    CHECK(first_task(&made, made.chunks) == most.tasks && first_task(&made, 0) == 0);
}

/* What a thread may wait for at the end is small beside a launch of a few large tasks, as products have. */
static void test_large_tasks_go_one_by_one(void) {
    rb_work work = {.kernel = count, .tasks = 34, .cost = (int64_t)34 << 22, .threads = 2};
    static slot slots[2];
    job made = make_job(&work, slots, 2);
    CHECK(made.chunks == 34);
}

int main(void) {
    test_equal_threads();
    test_slow_and_absent_threads();
    test_polling_is_in_time();
    test_runs_are_equal();
    test_large_tasks_go_one_by_one();
    puts("split: ok");
    return 0;
}
