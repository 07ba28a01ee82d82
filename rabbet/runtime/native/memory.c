/* Aligned memory, kept between uses, and the process-wide lock.
 *
 * Freed blocks wait in lists by size class, the most recently freed first (it is the hottest in cache).
 * First-touch page faults cost more than most kernels, so by default as many bytes may wait as were ever
 * in use at once; beyond that the block that has waited longest goes back to the system.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include "internal.h"

#include <stdlib.h>
#ifndef RB_NO_THREADS
#include <pthread.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { CLASSES = 1 + (62 - 6) * 4 };

static const size_t least_limit = (size_t)64 << 20;
static const size_t huge_page = (size_t)2 << 20;
static const size_t huge_from = (size_t)4 << 20;

/* Lives inside a free block. */
typedef struct free_block {
    struct free_block *newer_in_class, *older_in_class;
    struct free_block *newer, *older; /* over all classes */
    size_t size;
    unsigned class;
} free_block;

static free_block *class_newest[CLASSES];
static free_block *all_newest, *all_oldest;
static size_t cached_bytes, live_bytes, peak_bytes, limit_bytes;
static bool has_limit;

#ifdef RB_NO_THREADS
void rb_lock(void) {}
void rb_unlock(void) {}
#else
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void) {
    rb_pool_after_fork();
    rb_unlock();
}

static void register_fork(void) { pthread_atfork(rb_lock, rb_unlock, after_fork_in_child); }

void rb_lock(void) {
    pthread_once(&fork_once, register_fork);
    pthread_mutex_lock(&mutex);
}

void rb_unlock(void) { pthread_mutex_unlock(&mutex); }
#endif

static unsigned highest_bit(size_t value) {
    unsigned bit = 0;
    while (value >>= 1)
        bit++;
    return bit;
}

/* Four classes to each doubling, so at most a quarter is wasted. 0 if `bytes` is beyond reason. */
static size_t class_size(size_t bytes, unsigned *class) {
    if (bytes <= 64) {
        *class = 0;
        return 64;
    }
    if (bytes > (size_t)1 << (sizeof(size_t) * 8 - 3))
        return 0;
    unsigned power = highest_bit(bytes - 1);
    size_t step = (size_t)1 << (power - 2);
    size_t part = (bytes - 1 - ((size_t)1 << power)) / step;
    *class = 1 + (power - 6) * 4 + (unsigned)part;
    return ((size_t)1 << power) + (part + 1) * step;
}

static void unlink_block(free_block *block) {
    if (block->newer_in_class)
        block->newer_in_class->older_in_class = block->older_in_class;
    else
        class_newest[block->class] = block->older_in_class;
    if (block->older_in_class)
        block->older_in_class->newer_in_class = block->newer_in_class;
    if (block->newer)
        block->newer->older = block->older;
    else
        all_newest = block->older;
    if (block->older)
        block->older->newer = block->newer;
    else
        all_oldest = block->newer;
    cached_bytes -= block->size;
}

static void link_block(free_block *block, size_t size, unsigned class) {
    *block = (free_block){.older_in_class = class_newest[class], .older = all_newest, .size = size, .class = class};
    if (class_newest[class])
        class_newest[class]->newer_in_class = block;
    class_newest[class] = block;
    if (all_newest)
        all_newest->newer = block;
    else
        all_oldest = block;
    all_newest = block;
    cached_bytes += size;
}

/* Takes blocks out of the cache until it holds at most `limit` bytes; returns them as a chain. */
static free_block *evict_to(size_t limit) {
    free_block *chain = NULL;
    while (cached_bytes > limit) {
        free_block *block = all_oldest;
        unlink_block(block);
        block->older = chain;
        chain = block;
    }
    return chain;
}

static void free_chain(free_block *chain) {
    while (chain) {
        free_block *next = chain->older;
        free(chain);
        chain = next;
    }
}

static void *allocate(size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, size >= huge_from ? huge_page : RB_ALIGNMENT, size) != 0)
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= huge_from)
        (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish; without it the memory is only slower */
#endif
    return memory;
}

static void count_live(size_t size) {
    live_bytes += size;
    if (live_bytes > peak_bytes)
        peak_bytes = live_bytes;
}

/* A block that waits, of its own class or, if it `may_be_larger`, of the next above that has one; else a
 * new one. Sets its size. */
static void *take(size_t bytes, bool may_be_larger, size_t *taken) {
    unsigned class = 0;
    size_t size = class_size(bytes, &class);
    if (size == 0)
        return NULL;
    rb_lock();
    free_block *block = NULL;
    for (unsigned c = class; !block && c < (may_be_larger ? CLASSES : class + 1); c++)
        block = class_newest[c];
    if (block) {
        size = block->size;
        unlink_block(block);
        count_live(size);
    }
    rb_unlock();
    *taken = size;
    if (block)
        return block;
    void *memory = allocate(size);
    if (!memory) {
        rb_memory_trim();
        memory = allocate(size);
    }
    if (memory) {
        rb_lock();
        count_live(size);
        rb_unlock();
    }
    return memory;
}

void *rb_memory_take(size_t bytes) {
    size_t taken;
    return take(bytes, false, &taken);
}

/* However much larger: a run has its outputs already, so only another thread could have wanted the block meanwhile. */
void *rb_memory_take_room(size_t *bytes) { return take(*bytes, *bytes >= huge_from, bytes); }

static size_t current_limit(void) {
    if (has_limit)
        return limit_bytes;
    return peak_bytes > least_limit ? peak_bytes : least_limit;
}

void rb_memory_give(void *memory, size_t bytes) {
    if (!memory)
        return;
    unsigned class = 0;
    size_t size = class_size(bytes, &class);
    rb_lock();
    live_bytes -= size;
    link_block(memory, size, class);
    free_block *chain = evict_to(current_limit());
    rb_unlock();
    free_chain(chain);
}

size_t rb_memory_cached(void) {
    rb_lock();
    size_t bytes = cached_bytes;
    rb_unlock();
    return bytes;
}

size_t rb_memory_live(void) {
    rb_lock();
    size_t bytes = live_bytes;
    rb_unlock();
    return bytes;
}

void rb_memory_trim(void) {
    rb_lock();
    free_block *chain = evict_to(0);
    peak_bytes = live_bytes;
    rb_unlock();
    free_chain(chain);
}

void rb_memory_set_limit(size_t bytes) {
    rb_lock();
    has_limit = true;
    limit_bytes = bytes;
    free_block *chain = evict_to(bytes);
    rb_unlock();
    free_chain(chain);
}
