// What the runtime's extension offers to the recorder's without a Python call in between: a table of functions in
// the capsule `rabbet.runtime._runtime._api`.
#pragma once

#include <Python.h>

#include <cstdint>
#include <vector>

namespace rabbet {

struct Buffer;

// What is fixed once a program is bound to its sizes.
struct BoundFacts {
    std::vector<int64_t> input_bytes, output_bytes;
    std::vector<int64_t> donors; // per output: the input that it may be written over, or -1
    int64_t cost = 0;
    bool is_long = false; // a run lets go of the GIL
};

struct RuntimeApi {
    PyTypeObject *buffer_type, *bound_type;
    PyObject *(*new_buffer)(int64_t bytes); // nullptr and an error
    Buffer *(*buffer_of)(PyObject *buffer); // `buffer` is of `buffer_type`
    const BoundFacts *(*facts_of)(PyObject *bound);
    // Runs once; false and an error. The addresses stay with the caller.
    bool (*run)(PyObject *bound, void *const *inputs, void *const *outputs);
};

constexpr const char *api_name = "rabbet.runtime._runtime._api";

} // namespace rabbet
