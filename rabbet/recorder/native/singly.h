// Steps: a segment's ops one after the other, each by a small program of its own (engine/singly.py says when).
//
// Which program computes an op follows from its Prepared (op, attributes, form, Specs of operands), which of its operands
// are the same value, and which outputs are wanted. That is the key of a Single; they are found through the Prepared, as recipes are, and all live in one table.
#pragma once

#include "node.h"

#include "../../runtime/native/python/api.h"

#include <string>
#include <vector>

namespace rabbet {

// The program of one op.
struct Single {
    std::string key;
    PyObject *op;
    PyObject *found; // the layers above know it by this; runs it where `bound` is nullptr
    PyObject *bound;
    const BoundFacts *facts;
    std::vector<int32_t> keep; // the outputs that it computes, in order
    bool forgotten = false;    // what it was found for may have changed; a plan may hold it still

    Single() = default;
    Single(const Single &) = delete;
    Single &operator=(const Single &) = delete;
    ~Single() {
        Py_XDECREF(op);
        Py_XDECREF(found);
        Py_XDECREF(bound);
    }
};

// What was found for single ops under other settings is worth nothing; from Python.
PyObject *forget_singles(PyObject *module, PyObject *);

bool define_steps(PyObject *module);

// The values of a segment's outside operands, as a list of Buffers; nullptr and an error.
PyObject *leaf_buffers(PyObject *segment, PyObject *);

} // namespace rabbet
