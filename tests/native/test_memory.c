/* The memory cache: reuse, bounds, alignment. */
#include "plan.h"

static void test_reuse_most_recent(void) {
    void *a = rb_memory_take(1000), *b = rb_memory_take(1000);
    CHECK(a && b && a != b);
    CHECK((uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
    rb_memory_give(a, 1000);
    rb_memory_give(b, 1000);
    CHECK(rb_memory_take(1000) == b);
    CHECK(rb_memory_take(1001) == a); /* of the same size class */
    CHECK(rb_memory_cached() == 0);
    rb_memory_give(a, 1000);
    rb_memory_give(b, 1000);
    CHECK(rb_memory_cached() == 2048 && rb_memory_live() == 0);
    rb_memory_trim();
    CHECK(rb_memory_cached() == 0);
}

static void test_room(void) {
    const size_t large = (size_t)24 << 20;
    size_t bytes = large, less = large / 3, small = 1000;
    void *block = rb_memory_take_room(&bytes);
    CHECK(block && bytes == large);
    rb_memory_give(block, bytes);
    CHECK(rb_memory_take_room(&less) == block && less == large); /* touched before */
    rb_memory_give(block, less);
    void *exact = rb_memory_take(large / 3), *other = rb_memory_take_room(&small);
    CHECK(exact != block && other != block && small == 1024);
    rb_memory_give(exact, large / 3);
    less = large / 3;
    CHECK(rb_memory_take_room(&less) == exact); /* the smallest that serves */
    rb_memory_give(exact, less);
    rb_memory_give(other, small);
    CHECK(rb_memory_live() == 0);
    rb_memory_trim();
}

static void test_limit(void) {
    void *blocks[16];
    rb_memory_set_limit(4096);
    for (int i = 0; i < 16; i++)
        CHECK((blocks[i] = rb_memory_take(1024)) != NULL);
    for (int i = 0; i < 16; i++)
        rb_memory_give(blocks[i], 1024);
    CHECK(rb_memory_cached() == 4096);
    CHECK(rb_memory_take(1024) == blocks[15]); /* the oldest went back to the system */
    rb_memory_give(blocks[15], 1024);
    void *large = rb_memory_take(100000);
    rb_memory_give(large, 100000);
    CHECK(rb_memory_cached() == 0); /* larger than the limit: nothing else is kept for its sake */
}

static void test_sizes(void) {
    rb_memory_set_limit((size_t)1 << 30);
    for (size_t bytes = 0; bytes < 5000000; bytes = bytes * 5 / 4 + 1) {
        uint8_t *memory = rb_memory_take(bytes);
        CHECK(memory);
        memset(memory, 1, bytes);
        rb_memory_give(memory, bytes);
    }
    CHECK(rb_memory_take(SIZE_MAX) == NULL && rb_memory_take(SIZE_MAX / 2) == NULL);
    CHECK(rb_memory_live() == 0);
    rb_memory_trim();
}

int main(void) {
    test_reuse_most_recent();
    test_room();
    test_limit();
    test_sizes();
    puts("memory: ok");
    return 0;
}
