/* The part of an exported library that is the same for every model. Its generated part defines the tables
 * below (names ending in _TABLE or starting with N_) and public functions that call these, then this file is
 * included in the same translation unit; nothing in it is visible from outside.
 */
#include "rabbet.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum library_status {
    LIBRARY_OK = 0,
    LIBRARY_ARGUMENT = 1,
    LIBRARY_SIZE = 2,
    LIBRARY_INDEX = 3,
    LIBRARY_MEMORY = 4,
    LIBRARY_CPU = 5,
    LIBRARY_INTERNAL = 6
};

/* The program compiled for sizes that answer its questions alike; the first one that binds is run. */
typedef struct library_version {
    const int64_t *words;
    size_t n_words;
    const rb_kernel *kernels;
    size_t n_kernels;
    const int *weights; /* numbers of the weights that follow the inputs */
    size_t n_weights;
} library_version;

typedef struct library_model {
    rb_program *programs[N_VERSIONS];
} library_model;

extern const library_version VERSION_TABLE[N_VERSIONS];
extern const void *const WEIGHT_TABLE[];

/* Models open in this process. The last to close ends the threads, so that the library can be unloaded. */
static atomic_int library_open_models;

static void library_close(library_model *model) {
    if (!model)
        return;
    for (int i = 0; i < N_VERSIONS; i++)
        if (model->programs[i])
            rb_program_release(model->programs[i]);
    free(model);
    if (atomic_fetch_sub(&library_open_models, 1) == 1) {
        rb_shutdown();
        rb_memory_trim();
    }
}

static library_model *library_open(void) {
    library_model *model = calloc(1, sizeof *model);
    if (!model)
        return NULL;
    atomic_fetch_add(&library_open_models, 1);
    for (int i = 0; i < N_VERSIONS; i++) {
        const library_version *version = &VERSION_TABLE[i];
        if (rb_program_create(version->words, version->n_words, version->kernels, version->n_kernels, NULL, 0,
                              &model->programs[i], NULL) != RB_OK) {
            library_close(model);
            return NULL;
        }
    }
    return model;
}

static int library_translate(int code) {
    switch (code) {
    case RB_OK:
        return LIBRARY_OK;
    case RB_GUARD:
    case RB_ARITHMETIC:
        return LIBRARY_SIZE;
    case RB_MEMORY:
        return LIBRARY_MEMORY;
    case RB_INDEX:
        return LIBRARY_INDEX;
    case RB_ARGUMENT:
        return LIBRARY_ARGUMENT;
    default:
        return LIBRARY_INTERNAL;
    }
}

/* The version that was made for these sizes, bound to them. */
static int library_bind(const library_model *model, const int64_t *sizes, rb_bound **bound, int *chosen) {
    int code = RB_GUARD;
    for (int i = 0; i < N_VERSIONS && (code == RB_GUARD || code == RB_ARITHMETIC); i++) {
        code = rb_program_bind(model->programs[i], sizes, N_SIZES, bound, NULL);
        *chosen = i;
    }
    return library_translate(code);
}

static int library_run(const library_model *model, const int64_t *sizes, const void *const *inputs,
                       void *const *outputs) {
    if (!model || (N_INPUTS > 0 && !inputs) || !outputs)
        return LIBRARY_ARGUMENT;
    if (!library_sizes_fit(sizes))
        return LIBRARY_SIZE;
    rb_bound *bound = NULL;
    int chosen = 0;
    int status = library_bind(model, sizes, &bound, &chosen);
    if (status != LIBRARY_OK)
        return status;
    const library_version *version = &VERSION_TABLE[chosen];
    void *all[N_INPUTS + N_WEIGHTS + 1]; /* the runtime only reads what lies behind inputs */
    for (size_t i = 0; i < N_INPUTS; i++)
        all[i] = (void *)(uintptr_t)inputs[i];
    for (size_t i = 0; i < version->n_weights; i++)
        all[N_INPUTS + i] = (void *)(uintptr_t)WEIGHT_TABLE[version->weights[i]];
    status = library_translate(rb_run(bound, all, outputs, NULL, NULL));
    rb_bound_release(bound);
    return status;
}

/* ---- sizes of inputs and outputs: checked arithmetic --------------------------------------------------- */

static inline int64_t library_add(int64_t a, int64_t b, bool *fits) {
    int64_t result = 0;
    *fits = !__builtin_add_overflow(a, b, &result) && *fits;
    return result;
}

static inline int64_t library_multiply(int64_t a, int64_t b, bool *fits) {
    int64_t result = 0;
    *fits = !__builtin_mul_overflow(a, b, &result) && *fits;
    return result;
}

static inline int64_t library_floordiv(int64_t a, int64_t b, bool *fits) {
    if (b == 0 || (a == INT64_MIN && b == -1)) {
        *fits = false;
        return 0;
    }
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static inline int64_t library_modulo(int64_t a, int64_t b, bool *fits) {
    if (b == 0 || (a == INT64_MIN && b == -1)) {
        *fits = false;
        return 0;
    }
    int64_t rest = a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline int64_t library_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t library_min(int64_t a, int64_t b) { return a < b ? a : b; }
