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

/* Takes the next piece for a thread, its own or another's: how many tasks, 0 if there is none. */
static int64_t take_one(const job *the_job, int thread) {
    for (int i = 0; i < the_job->threads; i++) {
        slot *run = &the_job->slots[(thread + i) % the_job->threads];
        int64_t number = take_piece(run);
        if (number < 0)
            continue;
        run_piece(the_job, run, number, thread);
        return piece_begin(run, number + 1) - piece_begin(run, number);
    }
    return 0;
}

/* When all tasks are done, thread t taking pace[t] for each of its own (0: it never comes). */
static int64_t play(const job *the_job, const int *pace) {
    int64_t clock[THREADS] = {0}, end = 0;
    bool left[THREADS];
    for (int t = 0; t < the_job->threads; t++)
        left[t] = pace[t] > 0;
    for (;;) {
        int next = -1;
        for (int t = 0; t < the_job->threads; t++)
            if (left[t] && (next < 0 || clock[t] < clock[next]))
                next = t;
        if (next < 0)
            return end;
        int64_t tasks = take_one(the_job, next);
        left[next] = tasks > 0;
        clock[next] += tasks * pace[next];
        if (clock[next] > end)
            end = clock[next];
    }
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
        rb_work work = {.kernel = count, .tasks = tasks, .cost = (int64_t)1 << 26, .threads = THREADS};
        job made = divide(&work);
        CHECK(play(&made, pace) == (tasks + THREADS - 1) / THREADS); /* nobody waits for anybody */
        check_once(tasks);
    }
}

static void test_slow_and_absent_threads(void) {
    int pace[THREADS];
    rb_work work = {.kernel = count, .tasks = 4096, .cost = (int64_t)1 << 26, .threads = THREADS};
    for (int t = 0; t < THREADS; t++)
        pace[t] = t % 16 == 3 ? 2 : 1; /* four are half as fast */
    job made = divide(&work);
    CHECK(play(&made, pace) <= 96); /* 64 if all were equal, 128 if nobody helped */
    check_once(4096);
    for (int t = 0; t < THREADS; t++)
        pace[t] = t < 40; /* 24 never wake */
    made = divide(&work);
    CHECK(play(&made, pace) <= 112); /* 103 if tasks could be handed out one by one */
    check_once(4096);
}

/* One thread began late: what is left for the other is a thirty-second of a run. */
static void test_late_thread(void) {
    rb_work work = {.kernel = count, .tasks = 2048, .cost = (int64_t)1 << 24, .threads = 2};
    for (int64_t late = 0; late < 1024; late += 31) {
        static slot slots[THREADS];
        job made = make_job(&work, slots, 2);
        fill_slots(&made);
        memset(done, 0, sizeof done);
        int64_t clock[2] = {0, late};
        for (int64_t tasks = 1; tasks > 0;) {
            int next = clock[1] < clock[0];
            clock[next] += tasks = take_one(&made, next);
        }
        int64_t end = clock[0] > clock[1] ? clock[0] : clock[1];
        CHECK(end <= 1024 + late / 2 + 256 / 2); /* at most half of the first piece that is taken in help */
        CHECK(late > 32 || end <= 1024 + late / 2 + 32);
        check_once(2048);
    }
}

/* A piece ends in time, unless it is a single task. */
static void test_polling_is_in_time(void) {
    for (int64_t tasks = 1; tasks <= 60000; tasks = tasks * 3 + 1)
        for (int power = 10; power <= 40; power += 3) {
            static slot slots[THREADS];
            rb_work work = {.kernel = count, .tasks = tasks, .cost = (int64_t)1 << power, .threads = THREADS};
            for (int threads = 1; threads <= THREADS && threads <= tasks; threads *= 4) {
                job made = make_job(&work, slots, threads);
                memset(done, 0, sizeof done);
                fill_slots(&made);
                for (int t = 0; t < threads; t++)
                    for (int64_t i = 0; i < slots[t].pieces; i++) {
                        int64_t size = piece_begin(&slots[t], i + 1) - piece_begin(&slots[t], i);
                        CHECK(size == 1 || (size > 1 && size * made.task_cost <= cost_per_piece));
                        run_piece(&made, &slots[t], i, t);
                    }
                check_once(tasks);
            }
        }
}

/* A run's tasks differ by one at most from another's, whatever pieces they are cut into. */
static void test_runs_are_equal(void) {
    for (int64_t tasks = THREADS; tasks < 3000; tasks += 7) {
        rb_work work = {.kernel = count, .tasks = tasks, .cost = (int64_t)1 << 24, .threads = THREADS};
        job made = divide(&work);
        for (int t = 0; t < THREADS; t++)
            CHECK(made.slots[t].tasks == tasks / THREADS || made.slots[t].tasks == (tasks + THREADS - 1) / THREADS);
    }
    rb_work most = {.tasks = INT64_MAX, .cost = INT64_MAX, .threads = THREADS};
    static slot slots[THREADS];
    job made = make_job(&most, slots, THREADS);
    fill_slots(&made);
    for (int t = 0; t < THREADS; t++)
        CHECK(piece_begin(&slots[t], slots[t].pieces) == slots[t].tasks && piece_begin(&slots[t], 0) == 0);
    CHECK(slots[THREADS - 1].begin + slots[THREADS - 1].tasks == most.tasks);
}

/* What a thread may wait for at the end is small beside a launch of a few large tasks, as products have. */
static void test_large_tasks_go_one_by_one(void) {
    rb_work work = {.kernel = count, .tasks = 34, .cost = (int64_t)34 << 22, .threads = 2};
    static slot slots[2];
    job made = make_job(&work, slots, 2);
    fill_slots(&made);
    CHECK(slots[0].pieces == 17 && slots[1].pieces == 17);
}

int main(void) {
    test_equal_threads();
    test_slow_and_absent_threads();
    test_late_thread();
    test_polling_is_in_time();
    test_runs_are_equal();
    test_large_tasks_go_one_by_one();
    puts("split: ok");
    return 0;
}
