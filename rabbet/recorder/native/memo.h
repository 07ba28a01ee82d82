// Memo: (op, operand kinds, form, attributes) -> Prepared, exact to the bits of every attribute.
#pragma once

#include "prepared.h"

#include <cstdint>

namespace rabbet {

// One call of `record`; borrowed references.
struct Call {
    PyObject *op;
    PyObject *const *operands; // Handles, or Python numbers
    Py_ssize_t n;
    PyObject *attrs; // dict; nullptr: none
    PyObject *form;  // tuple; nullptr: ()
    PyObject *narrow = nullptr; // the dtype that autocast asks for; nullptr: none
};

// What is known of the call, asking `prepare` at its first sight; a new reference, or nullptr and an error.
Prepared *find_prepared(const Call &call);

void clear_memo();
Py_ssize_t memo_size();

constexpr Py_ssize_t memo_limit = 100000;

} // namespace rabbet
