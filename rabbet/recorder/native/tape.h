// Tape: the pending nodes of one thread, and the key and sizes of their segment, built on the way.
// Segment: what a flush takes from it.
#pragma once

#include "node.h"

#include <cstdint>
#include <string>
#include <vector>

namespace rabbet {

struct Assignment {
    PyObject *handle; // weak reference
    Node *node;
    int32_t index;
};

// What a segment is made of; counted references.
struct Recorded {
    std::vector<Node *> nodes;
    std::vector<Edge> leaves;
    std::string key;
    std::vector<int64_t> sizes;
    std::vector<Assignment> assignments;

    bool reads = true; // counted among the `readers` of its leaves, until it is computed
    bool computed = false; // its values stand, and what they were made from may be gone

    void end_reading();
    void release(); // gives everything back; afterwards nothing is in it
};

struct Tape {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *capture, *lock;
    PyObject *interpreter; // takes ops instead of the tape, or nullptr
    PyObject *runner; // computes every segment (anomaly mode, profiler), or nullptr
    PyObject *narrow; // the dtype of autocast, or nullptr
    PyObject *first_code; // where the first node was recorded
    int first_lasti;
    int64_t epoch, limit, byte_limit, pending_bytes;
    bool grad_enabled, flushing;
    Recorded *recorded;
    Recorded *spare; // an empty one with room, or nullptr

    int64_t count() const { return int64_t(recorded->nodes.size()); }
};

struct Segment {
    PyObject_HEAD
    Recorded *recorded;
    PyObject *nodes, *leaves, *key, *sizes, *assignments; // made when asked for
};

inline Segment *as_segment(PyObject *object) { return reinterpret_cast<Segment *>(object); }

// What a key needs of a Spec; remembered for each Spec, as asking one takes longer than recording an op.
struct SpecFacts {
    uint8_t dtype, rank;
    std::vector<int64_t> shape;
};

// False and an error. The facts stay where they are until the next call.
const SpecFacts *facts_of_spec(PyObject *spec);
void clear_specs();

extern PyTypeObject *tape_type, *segment_type;

// This thread's tape, borrowed; nullptr and an error.
Tape *current_tape();

// True where `node` waits on `tape` itself, not in a segment that was taken from it.
inline bool waits_on(const Node *node, const Tape *tape) {
    return node->tape == tape && node->epoch == tape->epoch;
}

// Puts a complete node with ready operands on the tape (a new reference); false and an error leave all as it was.
bool append(Tape *tape, Node *node);

// Forgets that the node waits on a tape; without a gradient to come it no longer needs what it came from.
void settle(Node *node);

// What was recorded so far; the tape starts anew.
Recorded *take_recorded(Tape *tape);
PyObject *take(PyObject *tape, PyObject *);
PyObject *new_segment(Recorded *recorded); // takes it over; nullptr and an error leave it to the caller

// Computed: the nodes leave the tape.
void settle_recorded(Recorded &recorded);

// Not computed: assigned handles get back what they stood for, and each use of a value raises `error`, but for nodes
// at the positions `innocent`, which have theirs. Of a segment whose values stand nothing is taken back.
void fail_recorded(Recorded &recorded, PyObject *error, const std::vector<bool> &innocent);
bool log_assignment(Tape *tape, PyObject *handle);

extern PyGetSetDef tape_fields[];
PyObject *list_of_nodes(const Recorded &recorded);
PyObject *list_of_leaves(const Recorded &recorded);
PyObject *tuple_of_sizes(const Recorded &recorded);
PyObject *list_of_assignments(const Recorded &recorded);

bool define_tape(PyObject *module);
bool define_segment(PyObject *module);

} // namespace rabbet
