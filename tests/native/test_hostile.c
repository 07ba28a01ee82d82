/* Hostile plans: random words changed in a good plan give an error or a run within bounds, never a crash.
 *
 * The kernel writes every byte that the plan says a call's arena and output buffers have, and reads the
 * others; under AddressSanitizer a size that does not fit its memory is seen. */
#include "internal.h"
#include "plan.h"

enum { ROUNDS = 200000, MOST_BYTES = 1 << 16 };

static rb_bound *current;
static uint64_t bytes_touched;

static void touch(uint8_t *const *buffers, const int64_t *sizes, int64_t begin, int64_t end, uint8_t *scratch,
                  int64_t *status) {
    const rb_program *program = current->program;
    const rb_call *call = &program->calls[status[1]];
    CHECK(begin >= 0 && begin < end && end <= current->tasks[status[1]]);
    for (int64_t i = 0; i < call->n_sizes; i++)
        bytes_touched += (uint64_t)sizes[i];
    memset(scratch, 1, (size_t)current->scratch_bytes);
    for (int64_t i = 0; i < call->n_buffers; i++) {
        int64_t bytes = current->buffer_bytes[call->buffers[i]];
        int64_t kind = program->buffers[call->buffers[i]].kind;
        if (kind == RB_ARENA || kind == RB_OUTPUT)
            memset(buffers[i], 2, (size_t)bytes);
        else
            for (int64_t k = 0; k < bytes; k++)
                bytes_touched += buffers[i][k];
    }
}

/* Two symbols m, n: h = f(x, w) in the arena, g in place of h, y = f(g), out. */
static void make_good(plan *p) {
    begin_plan(p, (const int64_t[]){2, 9, 2, 6, 3, 2, 1, 1, 2}, 2);
    int64_t m = expr(p, RB_SYMBOL, 0, 0), n = expr(p, RB_SYMBOL, 1, 0), four = expr(p, RB_CONST, 4, 0);
    int64_t row = expr(p, RB_MUL, n, four), all = expr(p, RB_MUL, m, row), zero = expr(p, RB_CONST, 0, 0);
    int64_t half = expr(p, RB_FLOORDIV, all, four), rest = expr(p, RB_MOD, all, four), most = expr(p, RB_MAX, m, n);
    put_all(p, 4, (const int64_t[]){1, n, 0, rest}); /* n != 0, rest == 0 */
    put_all(p, 6, (const int64_t[]){RB_INPUT, 0, all, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_INPUT, 1, row, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_CONSTANT, 0, four, 0, 0, -1});
    put_all(p, 6, (const int64_t[]){RB_ARENA, -1, all, 0, 1, -1});
    put_all(p, 6, (const int64_t[]){RB_ARENA, -1, half, 1, 2, 3});
    put_all(p, 6, (const int64_t[]){RB_OUTPUT, 0, all, 2, 2, -1});
    put_all(p, 7 + 4 + 2, (const int64_t[]){0, m, all, row, 1, 4, 2, 0, 1, 2, 3, m, n});
    put_all(p, 7 + 2 + 1, (const int64_t[]){1, most, half, zero, 0, 2, 1, 3, 4, half});
    put_all(p, 7 + 3 + 0, (const int64_t[]){0, m, all, row, 0, 3, 0, 4, 5, 0});
    end_plan(p);
}

static const int64_t interesting[] = {0, 1, -1, 2, 3, 4, 7, 8, 16, 255, INT64_MAX, INT64_MIN, INT64_MAX / 2,
                                      (int64_t)1 << 32, (int64_t)1 << 20, -8};

static void mutate(plan *p, uint64_t *seed) {
    int changes = 1 + (int)(next_random(seed) % 3);
    for (int i = 0; i < changes; i++) {
        int64_t *word = &p->words[next_random(seed) % p->n];
        switch (next_random(seed) % 4) {
        case 0:
            *word = interesting[next_random(seed) % (sizeof interesting / sizeof *interesting)];
            break;
        case 1:
            *word = (int64_t)((uint64_t)*word + next_random(seed) % 5 - 2);
            break;
        case 2:
            *word = (int64_t)((uint64_t)*word ^ (uint64_t)1 << next_random(seed) % 64);
            break;
        default:
            *word = p->words[next_random(seed) % p->n];
        }
    }
    if (next_random(seed) % 16 == 0) /* cut off or padded, with a header that agrees */
        p->words[2] = (int64_t)(p->n = next_random(seed) % (p->n + 2));
}

static bool is_small(const rb_bound *bound) {
    int64_t most = bound->frame_bytes | bound->scratch_bytes;
    for (int kind = 0; kind < 3; kind++)
        for (int64_t i = 0; i < bound->program->n_numbers[kind] && i < 64; i++)
            most |= bound->number_bytes[kind][i];
    for (int64_t i = 0; i < bound->program->n_calls; i++)
        most |= bound->tasks[i]; /* a kernel touches everything once a chunk */
    return most < MOST_BYTES && bound->program->n_numbers[RB_INPUT] < 64 && bound->program->n_numbers[RB_OUTPUT] < 64;
}

/* Runs with inputs and outputs of exactly the sizes that the bound program asks for. */
static void run_exactly(rb_bound *bound) {
    void *memory[2][64] = {{NULL}};
    for (int kind = 0; kind < 2; kind++)
        for (int64_t i = 0; i < rb_program_count(bound->program, kind); i++) {
            int64_t bytes = rb_bound_bytes(bound, kind, i);
            CHECK(bytes >= 0);
            CHECK(bytes == 0 || (memory[kind][i] = calloc((size_t)bytes, 1)) != NULL);
        }
    rb_error error;
    current = bound;
    int code = rb_run(bound, memory[0], memory[1], NULL, &error);
    CHECK(code == RB_OK || code == RB_MEMORY);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < 64; i++)
            free(memory[kind][i]);
}

/* What became of it: 0 refused at creation, 1 refused at binding, 2 run (or far too large to). */
static int try_plan(const plan *p) {
    static const rb_kernel kernels[] = {touch, touch};
    static const int64_t constant = 5;
    const rb_constant constants[] = {{&constant, 8}};
    const int64_t symbols[] = {3, 5};
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_error error = {0};
    int64_t *exact = malloc(p->n * sizeof *exact + 1); /* so that reading past the end is seen */
    CHECK(exact);
    memcpy(exact, p->words, p->n * sizeof *exact);
    int code = rb_program_create(exact, p->n, kernels, 2, constants, 1, &program, &error);
    free(exact);
    if (code != RB_OK) {
        CHECK(!program && error.code == code && error.text[0]);
        return 0;
    }
    code = rb_program_bind(program, symbols, (size_t)rb_program_symbols(program) <= 2 ? (size_t)rb_program_symbols(program) : 2, &bound, &error);
    if (code == RB_OK && is_small(bound))
        run_exactly(bound);
    rb_bound_release(bound);
    rb_program_release(program);
    return code == RB_OK ? 2 : 1;
}

int main(void) {
    static plan good, bad;
    int64_t outcomes[3] = {0};
    uint64_t seed = 11;
    make_good(&good);
    CHECK(try_plan(&good) == 2 && bytes_touched > 0);
    CHECK(rb_set_num_threads(2) == RB_OK);
    for (int round = 0; round < ROUNDS; round++) {
        bad = good;
        mutate(&bad, &seed);
        outcomes[try_plan(&bad)]++;
    }
    for (int i = 0; i < 3; i++)
        CHECK(outcomes[i] > ROUNDS / 100); /* the mutations reach every stage */
    CHECK(rb_memory_live() == 0);
    rb_memory_trim();
    CHECK(rb_shutdown() == RB_OK);
    puts("hostile: ok");
    return 0;
}
