// Prepared: what the rules above found for one (op, operand kinds, attributes), ready for quick use.
#pragma once

#include "ref.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace rabbet {

struct Recipes;
struct Single;

struct Prepared {
    PyObject_HEAD
    PyObject *dtypes, *specs, *code, *sizes, *differentiable, *casts; // as given, for Python
    int visible;
    bool any_differentiable;
    int64_t nbytes;                 // of all outputs, at most INT64_MAX
    std::vector<int64_t> *numbers;  // `sizes` as integers
    std::vector<std::weak_ptr<Single>> *singles;
    Recipes *recipes;               // of gradients of nodes with it
    std::vector<PyObject *> *number_specs; // per operand: (Spec,) of a number, made at its first use
};

extern PyTypeObject *prepared_type;

constexpr Py_ssize_t code_bytes = 16;

// A borrowed 1-tuple with the Spec of the number at operand `i`; nullptr and an error.
PyObject *number_specs(Prepared *prepared, Py_ssize_t i);

bool define_prepared(PyObject *module);

} // namespace rabbet
