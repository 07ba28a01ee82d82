/* The arena's layout: random lifetimes and sizes; no two spans alive at once may overlap. */
#include "internal.h"
#include "plan.h"

enum { MOST_SPANS = 200 };

static void check_layout(rb_span *spans, int64_t n, int64_t total, int64_t live, int64_t unshared) {
    int64_t used = 0;
    for (int64_t i = 0; i < n; i++) {
        CHECK(spans[i].offset >= 0 && spans[i].offset % RB_ALIGNMENT == 0);
        CHECK(spans[i].offset + spans[i].bytes <= total);
        if (spans[i].offset + spans[i].bytes > used)
            used = spans[i].offset + spans[i].bytes;
        for (int64_t k = 0; k < i; k++) {
            bool apart_in_time = spans[i].last < spans[k].first || spans[k].last < spans[i].first;
            bool apart_in_space = spans[i].offset + spans[i].bytes <= spans[k].offset ||
                                  spans[k].offset + spans[k].bytes <= spans[i].offset;
            CHECK(apart_in_time || apart_in_space || spans[i].bytes == 0 || spans[k].bytes == 0);
        }
    }
    CHECK(used == total && live <= total && total <= unshared);
}

static void test_random_layouts(void) {
    uint64_t seed = 7;
    double ratio = 0;
    for (int round = 0; round < 400; round++) {
        rb_span spans[MOST_SPANS];
        int64_t n = 1 + (int64_t)(next_random(&seed) % MOST_SPANS), calls = 1 + (int64_t)(next_random(&seed) % 60);
        for (int64_t i = 0; i < n; i++) {
            int64_t first = (int64_t)(next_random(&seed) % (uint64_t)calls);
            int64_t last = first + (int64_t)(next_random(&seed) % (uint64_t)(calls - first));
            int64_t bytes = (int64_t)(next_random(&seed) % ((uint64_t)1 << next_random(&seed) % 20));
            spans[i] = (rb_span){.first = first, .last = last, .bytes = bytes};
        }
        int64_t total = 0, live = 0, unshared = 0;
        CHECK(rb_arena_layout(spans, n, &total, &live, &unshared, NULL) == RB_OK);
        check_layout(spans, n, total, live, unshared);
        ratio += live > 0 ? (double)total / (double)live : 1;
    }
    CHECK(ratio / 400 < 1.1); /* and it is good: on average near the least possible */
}

/* a -> b -> c -> d ...: two buffers' worth, the most recently freed reused. */
static void test_chain(void) {
    rb_span spans[10];
    for (int i = 0; i < 10; i++)
        spans[i] = (rb_span){.first = i, .last = i + 1, .bytes = 1000};
    int64_t total = 0, live = 0, unshared = 0;
    CHECK(rb_arena_layout(spans, 10, &total, &live, &unshared, NULL) == RB_OK);
    CHECK(total == 2048 && live == 2048 && unshared == 10240);
}

static void test_overflow(void) {
    rb_span spans[2] = {{0, 0, INT64_MAX - 100, 0}, {0, 0, 200, 0}};
    int64_t total = 0, live = 0, unshared = 0;
    rb_error error;
    CHECK(rb_arena_layout(spans, 2, &total, &live, &unshared, &error) == RB_ARITHMETIC);
    spans[0].bytes = INT64_MAX;
    CHECK(rb_arena_layout(spans, 1, &total, &live, &unshared, &error) == RB_ARITHMETIC);
}

int main(void) {
    test_random_layouts();
    test_chain();
    test_overflow();
    puts("arena: ok");
    return 0;
}
