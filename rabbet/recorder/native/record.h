// Recording one op: from operands to the handles of its outputs.
#pragma once

#include "memo.h"
#include "site.h"
#include "tape.h"

namespace rabbet {

// What the recorder must not know, given from above by `configure`.
struct Hooks {
    PyObject *prepare, *flush, *cast;
    PyObject *value;  // Handle -> Buffer
    PyObject *scalar; // (number, Spec) -> Buffer
    PyObject *failed; // (segment, entry, exception): raises what the user is to see
    PyObject *learn;  // (node, Specs of the gradients that arrive): a Recipe, or None for a rule that must be called
    PyObject *rule;   // (node, gradients that arrive): gradients of its operands
    PyObject *add;    // the op that sums gradients
    PyTypeObject *handle;
    bool eager;
};

extern Hooks hooks;

// Appends one op; a new Handle, or a tuple of Handles, of its visible outputs; nullptr and an error leave the tape
// without it.
PyObject *record_call(const Call &call);

// Puts a node that has its edges and its room for outputs on the tape, as the call's op. False and an error leave the
// tape without it.
bool put_on_tape(Tape *tape, Node *node, const Call &call, Prepared *prepared, const Site &site);

// A node that holds a number as a run-time argument; `specs` is a 1-tuple.
Node *number_node(PyObject *specs, PyObject *number);

// Ends a segment that grew long or heavy before an op of this site is recorded; false and an error.
bool end_if_full(Tape *tape, const Site &site);

// record(op, operands, attrs, form), from Python.
PyObject *record(PyObject *module, PyObject *const *args, Py_ssize_t n);

// Computes what waits on a tape if a program is known for it. 1: nothing waits any more; 0: that takes the layers above;
// -1: an error.
int flush_known(Tape *tape);

// Flushes a tape; false and an error.
bool flush(Tape *tape);

// True where the operand can enter this tape as it is: pending here, or computed.
inline bool is_ready(const Tape *tape, const Edge &edge) {
    if (edge.node->tape)
        return waits_on(edge.node, tape);
    return !edge.node->error && has_value(edge.node, edge.index);
}

// Makes every operand of a node that is not on the tape yet ready: computes what waits on another tape, records again
// what was dropped. False and an error.
bool make_ready(Tape *tape, Node *node);

bool define_operator(PyObject *module);

} // namespace rabbet
