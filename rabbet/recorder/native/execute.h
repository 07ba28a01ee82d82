// Running what was recorded: from operands to the buffers of the results, without Python in between.
#pragma once

#include "ref.h"
#include "tape.h"

#include "../../runtime/native/python/api.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace rabbet {

// An output of a segment: the position of its node, and which of the node's outputs.
using Place = std::pair<int32_t, int32_t>;

extern const RuntimeApi *runtime;

// Fetches the runtime's functions; false and an error.
bool load_runtime();

// A bound program and the outputs of a segment that it computes.
struct Launch {
    PyObject *entry; // the layers above know it by this
    PyObject *bound;
    const BoundFacts *facts;
    std::vector<Place> keep;
};

// Checks and reads (entry, bound, tuple of places); references are borrowed. False and an error.
bool make_launch(PyObject *entry, PyObject *bound, PyObject *places, Launch &launch);

// Computes a segment: results go to its nodes. Memory of operands that nothing else can reach is written over where
// the program allows it. False and an error: then nothing has changed.
bool execute(Recorded &recorded, const Launch &launch);

// A Python number as one element of a dtype; false where NumPy must decide (no error is set).
bool encode_number(PyObject *number, int dtype_code, void *element);

// Does a dtype surely hold a Python int? False where NumPy must decide.
bool fits(PyObject *integer, int dtype_code);

// The bytes of an element that `encode_number` can write; 0 for other dtypes.
int64_t encoded_bytes(int dtype_code);

// True where `buffer`, which one list or record holds, is memory that nobody else can see.
bool is_givable(PyObject *buffer, int64_t bytes);

} // namespace rabbet
