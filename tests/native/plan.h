/* Builds plans for tests, one word after the other. */
#ifndef TEST_PLAN_H
#define TEST_PLAN_H

#include "rabbet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

enum { MOST_WORDS = 4096 };

typedef struct plan {
    int64_t words[MOST_WORDS];
    size_t n;
    int64_t exprs; /* so far */
} plan;

static inline void put(plan *p, int64_t word) {
    CHECK(p->n < MOST_WORDS);
    p->words[p->n++] = word;
}

/* Sections follow in the order of the counts; the caller keeps to them. */
static inline void begin_plan(plan *p, const int64_t counts[9], int64_t commit_call) {
    memset(p, 0, sizeof *p);
    int64_t magic = 0;
    memcpy(&magic, "RABBETP1", 8);
    put(p, magic);
    put(p, 1);
    put(p, 0);
    for (int i = 0; i < 9; i++) /* symbols exprs guards buffers calls inputs outputs constants kernels */
        put(p, counts[i]);
    put(p, commit_call);
    for (int i = 0; i < 3; i++)
        put(p, 0);
}

static inline int64_t expr(plan *p, int64_t opcode, int64_t a, int64_t b) {
    put(p, opcode);
    put(p, a);
    put(p, b);
    return p->exprs++;
}

static inline void put_all(plan *p, int n, const int64_t *words) {
    for (int i = 0; i < n; i++)
        put(p, words[i]);
}

static inline void end_plan(plan *p) { p->words[2] = (int64_t)p->n; }

/* A small generator, the same everywhere. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

#endif
