// Node: one recorded op, or a leaf with data; who reads its outputs and which of them are alive.
#pragma once

#include "ref.h"

#include <cstdint>

namespace rabbet {

struct Node;
struct Prepared;
struct Tape;

// One operand: an output of an earlier node (a counted reference).
struct Edge {
    Node *node;
    int32_t index;
};

// What is known of one output beside its Spec and buffer.
struct Output {
    int64_t epoch;       // the segment that numbered it last as an outside operand
    int32_t leaf_number; // its number there
    int32_t handles;     // how many handles stand for it
    int32_t retained;    // edges of nodes whose gradient may still be asked for
    int32_t readers;     // segments not yet computed that have it as an outside operand
};

struct Node {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *op, *attrs, *form; // nullptr: a leaf; no attributes; ()
    Prepared *prepared;
    PyObject *specs;   // tuple
    PyObject *buffers; // list, or nullptr: none is computed
    PyObject *owner, *error, *number, *offset;
    PyObject *code; // the user's code that recorded it, and the instruction there
    Tape *tape;     // not nullptr: pending
    int64_t sequence;
    int64_t epoch; // the segment it waits in
    int32_t position, lasti;
    int32_t n_edges, n_outputs;
    Edge *edges;
    Output *outputs;
    Edge few_edges[2];
    Output one_output;
    bool requires_grad;
    bool is_leaf; // gradients stop here and go to `owner`
    bool cut;     // backward went through and freed the edges
    bool holds;   // its edges count as `retained`
};

extern PyTypeObject *node_type;

inline bool is_node(PyObject *object) { return Py_IS_TYPE(object, node_type); }

// A node with nothing in it; nullptr and MemoryError where there is no memory.
//
// The garbage collector sees only nodes that may be part of a cycle, so that a long graph is nothing it has to walk.
// From a node ways lead to earlier nodes, to buffers, and to its tape, which a thread holds: none of them leads back,
// until it gets an error (whose traceback holds frames) or its tape loses its thread. `track` is for these two.
Node *new_node();
void track(Node *node);

int64_t nodes_alive();

// None for each output, as a list that the garbage collector has no interest in: it holds Buffers. nullptr and an error.
PyObject *no_buffers(const Node *node);

int64_t next_sequence();

// Room for n outputs (counts of the first ones are kept) or n edges; false and an error where there is none.
bool resize_outputs(Node *node, Py_ssize_t n);
bool reserve_edges(Node *node, Py_ssize_t n);
void drop_edges(Node *node);

// Brings the `retained` counts of its inputs up to date after its flags or edges changed.
void count_retained(Node *node);

// True where an output has a value without computing.
inline bool has_value(const Node *node, Py_ssize_t index) {
    if (node->number || node->offset)
        return true;
    return node->buffers && index < PyList_GET_SIZE(node->buffers) &&
           PyList_GET_ITEM(node->buffers, index) != Py_None;
}

// A node that holds one value from outside; `specs` is a 1-tuple.
Node *new_leaf(PyObject *specs);
PyObject *make_leaf_of(PyObject *spec, PyObject *buffer); // that holds this value

extern PyGetSetDef node_fields[];

bool define_node(PyObject *module);

} // namespace rabbet
