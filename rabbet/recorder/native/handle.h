// Handle: a user's reference to one output of a node. Its death marks that output as dead.
#pragma once

#include "node.h"

namespace rabbet {

struct Handle {
    PyObject_HEAD
    Node *node; // nullptr before __init__ and after the garbage collector broke a cycle
    PyObject *grad, *hooks, *weakrefs;
    int32_t index;
};

extern PyTypeObject *handle_type;

inline bool is_handle(PyObject *object) { return PyObject_TypeCheck(object, handle_type); }

// A new handle of the configured type for one output, without a call of `__init__`; nullptr and an error.
PyObject *new_handle(Node *node, int32_t index);

// Makes a handle stand for another output.
void move_handle(Handle *handle, Node *node, int32_t index);

// True, or TypeError for a handle that stands for nothing yet.
bool stands(const Handle *handle);

bool define_handle(PyObject *module);

} // namespace rabbet
