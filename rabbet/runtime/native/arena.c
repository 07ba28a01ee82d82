/* Lays out the arena: lifetimes and sizes in, offsets out.
 *
 * First in the order of the calls, each span into the smallest gap that holds it, of equal gaps the most
 * recently freed one (its lines are still in cache). Where that wastes more than a twentieth over what is
 * alive at once, a second layout places the largest spans first; the smaller arena wins.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { LARGEST_FIRST_LIMIT = 2048 }; /* it is quadratic: a few milliseconds at most */

typedef struct gap {
    int64_t offset, bytes;
    int64_t freed; /* when, in spans: greater is more recent */
} gap;

static int compare(int64_t x, int64_t y) { return (x > y) - (x < y); }

/* qsort is not stable, so every order ends with the address: equal on every machine. */
static int by_first(const void *left, const void *right) {
    const rb_span *a = *(rb_span *const *)left, *b = *(rb_span *const *)right;
    int order = compare(a->first, b->first);
    return order ? order : (a > b) - (a < b);
}

static int by_last(const void *left, const void *right) {
    const rb_span *a = *(rb_span *const *)left, *b = *(rb_span *const *)right;
    int order = compare(a->last, b->last);
    return order ? order : (a > b) - (a < b);
}

static int by_size(const void *left, const void *right) {
    const rb_span *a = *(rb_span *const *)left, *b = *(rb_span *const *)right;
    int order = compare(b->bytes, a->bytes);
    return order ? order : (a > b) - (a < b);
}

static void remove_gap(gap *gaps, int64_t *n, int64_t at) {
    memmove(gaps + at, gaps + at + 1, (size_t)(*n - at - 1) * sizeof *gaps);
    --*n;
}

/* Puts a freed range back, joined with its neighbours. Gaps are ordered by offset and never touch. */
static void add_gap(gap *gaps, int64_t *n, gap freed) {
    int64_t at = 0;
    if (freed.bytes == 0)
        return;
    while (at < *n && gaps[at].offset < freed.offset)
        at++;
    if (at < *n && freed.offset + freed.bytes == gaps[at].offset) {
        freed.bytes += gaps[at].bytes;
        remove_gap(gaps, n, at);
    }
    if (at > 0 && gaps[at - 1].offset + gaps[at - 1].bytes == freed.offset) {
        freed.bytes += gaps[at - 1].bytes;
        freed.offset = gaps[at - 1].offset;
        remove_gap(gaps, n, --at);
    }
    memmove(gaps + at + 1, gaps + at, (size_t)(*n - at) * sizeof *gaps);
    gaps[at] = freed;
    ++*n;
}

static int64_t best_gap(const gap *gaps, int64_t n, int64_t bytes) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (gaps[i].bytes < bytes)
            continue;
        if (best < 0 || gaps[i].bytes < gaps[best].bytes ||
            (gaps[i].bytes == gaps[best].bytes && gaps[i].freed > gaps[best].freed))
            best = i;
    }
    return best;
}

/* Offset for `bytes`, from a gap or by growing the arena (the last gap, if it ends there, is used up). */
static int64_t place(gap *gaps, int64_t *n, int64_t bytes, int64_t *total) {
    int64_t at = best_gap(gaps, *n, bytes);
    if (at >= 0) {
        int64_t offset = gaps[at].offset;
        gaps[at].offset += bytes;
        gaps[at].bytes -= bytes;
        if (gaps[at].bytes == 0)
            remove_gap(gaps, n, at);
        return offset;
    }
    int64_t offset = *total;
    if (*n > 0 && gaps[*n - 1].offset + gaps[*n - 1].bytes == *total)
        offset = gaps[--*n].offset;
    *total = offset + bytes;
    return offset;
}

/* `starts` and `ends`: all spans by first and by last call. Returns the size of the arena. */
static int64_t layout_in_order(rb_span **starts, rb_span **ends, int64_t n, gap *gaps, int64_t *live) {
    int64_t n_gaps = 0, total = 0, alive = 0, ended = 0;
    *live = 0;
    for (int64_t i = 0; i < n; i++) {
        for (; ends[ended]->last < starts[i]->first; ended++) {
            add_gap(gaps, &n_gaps, (gap){ends[ended]->offset, ends[ended]->bytes, ended});
            alive -= ends[ended]->bytes;
        }
        starts[i]->offset = place(gaps, &n_gaps, starts[i]->bytes, &total);
        alive += starts[i]->bytes;
        if (alive > *live)
            *live = alive;
    }
    return total;
}

/* Inserts into `placed` (ordered by offset) and returns the new count. */
static int64_t insert_placed(rb_span **placed, int64_t n, rb_span *span) {
    int64_t at = n;
    for (; at > 0 && placed[at - 1]->offset > span->offset; at--)
        placed[at] = placed[at - 1];
    placed[at] = span;
    return n + 1;
}

/* Each span, largest first, into the smallest gap between those alive at the same time. */
static int64_t layout_largest_first(rb_span **sizes, int64_t n, rb_span **placed) {
    int64_t n_placed = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        rb_span *span = sizes[i];
        int64_t top = 0, best = -1, best_bytes = INT64_MAX;
        for (int64_t k = 0; k < n_placed; k++) {
            const rb_span *other = placed[k];
            if (other->last < span->first || span->last < other->first)
                continue;
            int64_t free_bytes = other->offset - top;
            if (free_bytes >= span->bytes && free_bytes < best_bytes) {
                best = top;
                best_bytes = free_bytes;
            }
            if (other->offset + other->bytes > top)
                top = other->offset + other->bytes;
        }
        span->offset = best >= 0 ? best : top;
        if (span->offset + span->bytes > total)
            total = span->offset + span->bytes;
        n_placed = insert_placed(placed, n_placed, span);
    }
    return total;
}

/* Rounds sizes up to the alignment; their checked sum bounds every offset. */
static int round_sizes(rb_span *spans, int64_t n, int64_t *sum, rb_error *error) {
    *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (spans[i].bytes > INT64_MAX - RB_ALIGNMENT)
            return rb_fail(error, RB_ARITHMETIC, "a buffer of %lld bytes is too large",
                           (long long)spans[i].bytes);
        spans[i].bytes = (spans[i].bytes + RB_ALIGNMENT - 1) / RB_ALIGNMENT * RB_ALIGNMENT;
        if (__builtin_add_overflow(*sum, spans[i].bytes, sum))
            return rb_fail(error, RB_ARITHMETIC, "the sizes of the arena's buffers overflow");
    }
    return RB_OK;
}

/* Both layouts; leaves the better one in the spans. `lists` holds 3n pointers, `gaps` n + 1. */
static int64_t choose_layout(rb_span *spans, int64_t n, rb_span **lists, gap *gaps, int64_t *offsets,
                             int64_t *live) {
    rb_span **starts = lists, **ends = lists + n, **placed = lists + 2 * n;
    for (int64_t i = 0; i < n; i++)
        starts[i] = ends[i] = &spans[i];
    qsort(starts, (size_t)n, sizeof *starts, by_first);
    qsort(ends, (size_t)n, sizeof *ends, by_last);
    int64_t total = layout_in_order(starts, ends, n, gaps, live);
    if (n > LARGEST_FIRST_LIMIT || total - *live <= *live / 20)
        return total;
    for (int64_t i = 0; i < n; i++)
        offsets[i] = spans[i].offset;
    qsort(starts, (size_t)n, sizeof *starts, by_size);
    int64_t other = layout_largest_first(starts, n, placed);
    if (other < total)
        return other;
    for (int64_t i = 0; i < n; i++)
        spans[i].offset = offsets[i];
    return total;
}

int rb_arena_layout(rb_span *spans, int64_t n, int64_t *total, int64_t *live, int64_t *unshared,
                    rb_error *error) {
    *total = *live = *unshared = 0;
    if (n <= 0)
        return RB_OK;
    int code = round_sizes(spans, n, unshared, error);
    if (code != RB_OK)
        return code;
    rb_span **lists = calloc((size_t)n * 3, sizeof *lists);
    gap *gaps = calloc((size_t)n + 1, sizeof *gaps);
    int64_t *offsets = calloc((size_t)n, sizeof *offsets);
    if (lists && gaps && offsets)
        *total = choose_layout(spans, n, lists, gaps, offsets, live);
    else
        code = rb_fail(error, RB_MEMORY, "no memory to lay out the arena");
    free(lists);
    free(gaps);
    free(offsets);
    return code;
}
