/* Runs the programs of a bundle (tests/foreign/bundle.py writes it) and writes all their outputs, one after the
 * other. Usage: runner BUNDLE RESULTS. The kernels are linked in: `rb_kernels`, in the order of the bundle. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rabbet.h"

extern const rb_kernel rb_kernels[];

static void need(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static int64_t next_word(FILE *file) {
    int64_t word = 0;
    need(fread(&word, sizeof word, 1, file) == 1, "the bundle is cut off");
    return word;
}

static int64_t *next_words(FILE *file, int64_t count) {
    int64_t *words = malloc(sizeof *words * (size_t)(count + 1));
    need(words && fread(words, sizeof *words, (size_t)count, file) == (size_t)count, "the bundle is cut off");
    return words;
}

static void *next_bytes(FILE *file, int64_t bytes) {
    void *memory = NULL;
    need(posix_memalign(&memory, 64, (size_t)bytes + 64) == 0, "no memory");
    need(fread(memory, 1, (size_t)bytes, file) == (size_t)bytes, "the bundle is cut off");
    return memory;
}

static void run_one(FILE *bundle, FILE *results, int64_t number) {
    rb_error error = {0};
    int64_t n_words = next_word(bundle), n_kernels = next_word(bundle);
    int64_t n_inputs = next_word(bundle), n_outputs = next_word(bundle);
    int64_t *words = next_words(bundle, n_words), *indices = next_words(bundle, n_kernels);
    rb_kernel *kernels = calloc((size_t)n_kernels + 1, sizeof *kernels);
    void **inputs = calloc((size_t)n_inputs + 1, sizeof *inputs);
    void **outputs = calloc((size_t)n_outputs + 1, sizeof *outputs);
    need(kernels && inputs && outputs, "no memory");
    for (int64_t i = 0; i < n_kernels; i++)
        kernels[i] = rb_kernels[indices[i]];
    for (int64_t i = 0; i < n_inputs; i++)
        inputs[i] = next_bytes(bundle, next_word(bundle));
    int64_t *sizes = next_words(bundle, n_outputs);
    for (int64_t i = 0; i < n_outputs; i++) {
        need(posix_memalign(&outputs[i], 64, (size_t)sizes[i] + 64) == 0, "no memory");
        memset(outputs[i], 0xA5, (size_t)sizes[i] + 64);
    }
    rb_program *program = NULL;
    rb_bound *bound = NULL;
    rb_options options = {.threads = 1 + number % 2};
    if (rb_program_create(words, (size_t)n_words, kernels, (size_t)n_kernels, NULL, 0, &program, &error) ||
        rb_program_bind(program, NULL, 0, &bound, &error) || rb_run(bound, inputs, outputs, &options, &error)) {
        fprintf(stderr, "program %lld: %s\n", (long long)number, error.text);
        exit(1);
    }
    for (int64_t i = 0; i < n_outputs; i++) {
        for (int64_t k = 0; k < 64; k++)
            need(((uint8_t *)outputs[i])[sizes[i] + k] == 0xA5, "a kernel wrote behind its output");
        need(fwrite(outputs[i], 1, (size_t)sizes[i], results) == (size_t)sizes[i], "the results cannot be written");
        free(outputs[i]);
    }
    for (int64_t i = 0; i < n_inputs; i++)
        free(inputs[i]);
    rb_bound_release(bound);
    rb_program_release(program);
    free(words), free(indices), free(kernels), free(inputs), free(outputs), free(sizes);
}

int main(int argc, char **argv) {
    need(argc == 3, "usage: runner BUNDLE RESULTS");
    FILE *bundle = fopen(argv[1], "rb"), *results = fopen(argv[2], "wb");
    need(bundle && results, "a file cannot be opened");
    int64_t count = next_word(bundle);
    for (int64_t i = 0; i < count; i++)
        run_one(bundle, results, i);
    need(fclose(results) == 0, "the results cannot be written");
    return 0;
}
