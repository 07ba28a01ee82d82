/* Runs recorded programs with nothing of Python around, and compares every byte of their outputs.
 *
 * Built with the runtime's sources, the objects of the kernels and a generated table of them. Each
 * argument is a file of 64-bit words and bytes; see write_case in replay.py. A program runs with
 * one thread, with two, and a third time by hand: each buffer in a block of its own of exactly its
 * size, each call in several parts, each part with scratch memory of its own that nobody has set.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct named_kernel {
    const char *name;
    rb_kernel function;
} named_kernel;

extern const named_kernel replay_kernels[];
extern const size_t replay_count;

enum { SHIFT = 8 }; /* buffers are only aligned for their elements */

typedef struct block {
    uint8_t *memory; /* as allocated */
    uint8_t *data;
    int64_t bytes;
} block;

typedef struct recorded {
    int64_t n_words, n_kernels, n_symbols, n_inputs, n_outputs;
    int64_t *words, *symbols;
    rb_kernel *kernels;
    block *inputs, *expected;
} recorded;

static const char *file_name;

static void fail(const char *what, int64_t number) {
    fprintf(stderr, "%s: %s (%lld)\n", file_name, what, (long long)number);
    exit(1);
}

static void *get(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        fail("no memory", (int64_t)bytes);
    return memory;
}

static block get_block(int64_t bytes) {
    uint8_t *memory = get((size_t)bytes + SHIFT);
    return (block){memory, memory + SHIFT, bytes};
}

static void read_bytes(FILE *file, void *to, size_t bytes) {
    if (bytes && fread(to, 1, bytes, file) != bytes)
        fail("the file is too short", (int64_t)bytes);
}

static int64_t read_word(FILE *file) {
    int64_t word = 0;
    read_bytes(file, &word, sizeof word);
    return word;
}

static int64_t *read_words(FILE *file, int64_t *n) {
    *n = read_word(file);
    int64_t *words = get((size_t)*n * sizeof *words);
    read_bytes(file, words, (size_t)*n * sizeof *words);
    return words;
}

static block *read_blocks(FILE *file, int64_t *n) {
    *n = read_word(file);
    block *blocks = get((size_t)*n * sizeof *blocks);
    for (int64_t i = 0; i < *n; i++) {
        blocks[i] = get_block(read_word(file));
        read_bytes(file, blocks[i].data, (size_t)blocks[i].bytes);
    }
    return blocks;
}

static rb_kernel find_kernel(const char *name) {
    for (size_t i = 0; i < replay_count; i++)
        if (strcmp(replay_kernels[i].name, name) == 0)
            return replay_kernels[i].function;
    fail(name, -1);
    return NULL;
}

static recorded read_case(void) {
    FILE *file = fopen(file_name, "rb");
    if (!file)
        fail("cannot be opened", 0);
    recorded r = {0};
    r.words = read_words(file, &r.n_words);
    r.symbols = read_words(file, &r.n_symbols);
    r.n_kernels = read_word(file);
    r.kernels = get((size_t)r.n_kernels * sizeof *r.kernels);
    for (int64_t i = 0; i < r.n_kernels; i++) {
        char name[128] = {0};
        read_bytes(file, name, sizeof name);
        r.kernels[i] = find_kernel(name);
    }
    r.inputs = read_blocks(file, &r.n_inputs);
    r.expected = read_blocks(file, &r.n_outputs);
    fclose(file);
    return r;
}

static void **pointers_of(const block *blocks, int64_t n) {
    void **pointers = get((size_t)n * sizeof *pointers);
    for (int64_t i = 0; i < n; i++)
        pointers[i] = blocks[i].data;
    return pointers;
}

static block *new_blocks_like(const block *blocks, int64_t n) {
    block *made = get((size_t)n * sizeof *made);
    for (int64_t i = 0; i < n; i++)
        made[i] = get_block(blocks[i].bytes);
    return made;
}

static void free_blocks(block *blocks, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        free(blocks[i].memory);
    free(blocks);
}

static void compare(const recorded *r, const block *outputs, const char *way) {
    for (int64_t i = 0; i < r->n_outputs; i++)
        if (memcmp(outputs[i].data, r->expected[i].data, (size_t)r->expected[i].bytes) != 0)
            fail(way, i);
}

static void run_by_runtime(const recorded *r, rb_bound *bound, int threads) {
    block *outputs = new_blocks_like(r->expected, r->n_outputs);
    void **in = pointers_of(r->inputs, r->n_inputs), **out = pointers_of(outputs, r->n_outputs);
    rb_error error = {0};
    rb_options options = {.threads = threads};
    int code = rb_run(bound, in, out, &options, &error);
    if (code != RB_OK)
        fail(error.text, code);
    compare(r, outputs, threads == 1 ? "another output with one thread" : "another output with two threads");
    free(in);
    free(out);
    free_blocks(outputs, r->n_outputs);
}

static void run_part(const rb_bound *bound, int64_t call, uint8_t **buffers, int64_t begin, int64_t end) {
    const rb_call *what = &bound->program->calls[call];
    size_t bytes = (size_t)bound->scratch_bytes;
    void *scratch = NULL;
    if (posix_memalign(&scratch, RB_ALIGNMENT, bytes ? bytes : 1) != 0)
        fail("no memory for scratch", call);
    int64_t status[RB_STATUS_WORDS] = {0, call, 0, 0, 0};
    bound->program->kernels[what->kernel](buffers, bound->sizes + what->first_size, begin, end, scratch, status);
    if (status[0])
        fail("an index out of range in call", call);
    free(scratch);
}

static void run_call(const rb_bound *bound, int64_t call, const block *places) {
    const rb_call *what = &bound->program->calls[call];
    uint8_t **buffers = get((size_t)what->n_buffers * sizeof *buffers);
    for (int64_t k = 0; k < what->n_buffers; k++)
        buffers[k] = places[what->buffers[k]].data;
    int64_t tasks = bound->tasks[call], first = (tasks + 2) / 3, second = first + (tasks - first + 1) / 2;
    /* Parts may run in any order; the last first. */
    if (second < tasks)
        run_part(bound, call, buffers, second, tasks);
    if (first < second)
        run_part(bound, call, buffers, first, second);
    if (first > 0)
        run_part(bound, call, buffers, 0, first);
    free(buffers);
}

static void run_by_hand(const recorded *r, const rb_bound *bound) {
    const rb_program *program = bound->program;
    block *outputs = new_blocks_like(r->expected, r->n_outputs);
    block *places = get((size_t)program->n_buffers * sizeof *places);
    for (int64_t i = 0; i < program->n_buffers; i++) {
        const rb_buffer *buffer = &program->buffers[i];
        if (buffer->kind == RB_INPUT)
            places[i] = r->inputs[buffer->number];
        else if (buffer->kind == RB_OUTPUT)
            places[i] = outputs[buffer->number];
        else if (program->roots[i] != i)
            places[i] = places[program->roots[i]];
        else
            places[i] = get_block(bound->buffer_bytes[i]);
    }
    for (int64_t call = 0; call < program->n_calls; call++)
        run_call(bound, call, places);
    compare(r, outputs, "another output by hand");
    for (int64_t i = 0; i < program->n_buffers; i++)
        if (program->buffers[i].kind == RB_ARENA && program->roots[i] == i)
            free(places[i].memory);
    free(places);
    free_blocks(outputs, r->n_outputs);
}

static void replay(void) {
    recorded r = read_case();
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_error error = {0};
    if (rb_program_create(r.words, (size_t)r.n_words, r.kernels, (size_t)r.n_kernels, NULL, 0, &program, &error) !=
        RB_OK)
        fail(error.text, error.code);
    if (rb_program_bind(program, r.symbols, (size_t)r.n_symbols, &bound, &error) != RB_OK)
        fail(error.text, error.code);
    run_by_runtime(&r, bound, 1);
    run_by_runtime(&r, bound, 2);
    if (program->n_bodies == 0) /* bodies are the runtime's to run */
        run_by_hand(&r, bound);
    rb_bound_release(bound);
    rb_program_release(program);
    free(r.words);
    free(r.symbols);
    free(r.kernels);
    free_blocks(r.inputs, r.n_inputs);
    free_blocks(r.expected, r.n_outputs);
}

int main(int argc, char **argv) {
    if (rb_set_num_threads(2) != RB_OK)
        return 1;
    for (int i = 1; i < argc; i++) {
        file_name = argv[i];
        replay();
    }
    rb_shutdown();
    rb_memory_trim();
    printf("replayed %d programs\n", argc - 1);
    return 0;
}
