// Segment: what a flush takes from a tape, and what becomes of its nodes.
#include "entry.h"
#include "handle.h"
#include "known.h"
#include "singly.h"
#include "tape.h"

#include <structmember.h>

#include <cstddef>

namespace rabbet {

PyTypeObject *segment_type = nullptr;

namespace {

PyTypeObject *leaf_type = nullptr;

int traverse(PyObject *self, visitproc visit, void *arg) {
    Segment *segment = as_segment(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(segment->nodes);
    Py_VISIT(segment->leaves);
    Py_VISIT(segment->assignments);
    if (!segment->recorded)
        return 0;
    for (Node *node : segment->recorded->nodes)
        Py_VISIT(py(node));
    for (const Edge &leaf : segment->recorded->leaves)
        Py_VISIT(py(leaf.node));
    for (const Assignment &assignment : segment->recorded->assignments) {
        Py_VISIT(assignment.handle);
        Py_VISIT(py(assignment.node));
    }
    return 0;
}

int clear(PyObject *self) {
    Segment *segment = as_segment(self);
    Py_CLEAR(segment->nodes);
    Py_CLEAR(segment->leaves);
    Py_CLEAR(segment->assignments);
    if (segment->recorded)
        segment->recorded->release();
    return 0;
}

// Let go of before anybody said what became of it: an interrupt came between two steps of Python.
void give_up(Recorded &recorded) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    const Ref error = Ref::steal(
        PyObject_CallFunction(PyExc_RuntimeError, "s", "this value was never computed: its computation was interrupted"));
    fail_recorded(recorded, error ? error.get() : Py_None, {});
    PyErr_Restore(type, value, trace);
}

void dealloc(PyObject *self) {
    Segment *segment = as_segment(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (segment->recorded && segment->recorded->reads && !segment->recorded->nodes.empty())
        give_up(*segment->recorded);
    clear(self);
    Py_XDECREF(segment->key);
    Py_XDECREF(segment->sizes);
    delete segment->recorded;
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *live(PyObject *self, PyObject *) {
    std::vector<Place> places;
    find_live(*as_segment(self)->recorded, places);
    Ref found = Ref::steal(PyTuple_New(Py_ssize_t(places.size())));
    for (size_t i = 0; found && i < places.size(); i++) {
        PyObject *place = Py_BuildValue("(ii)", int(places[i].first), int(places[i].second));
        if (!place)
            return nullptr;
        PyTuple_SET_ITEM(found.get(), Py_ssize_t(i), place);
    }
    return found.release();
}

PyObject *settle_all(PyObject *self, PyObject *) {
    settle_recorded(*as_segment(self)->recorded);
    Py_RETURN_NONE;
}

// execute(entry, bound, keep): computes the segment into its nodes.
PyObject *execute_all(PyObject *self, PyObject *args) {
    PyObject *entry, *bound, *places;
    if (!PyArg_ParseTuple(args, "OOO!:execute", &entry, &bound, &PyTuple_Type, &places))
        return nullptr;
    Launch launch;
    if (!make_launch(entry, bound, places, launch))
        return nullptr;
    const Ref entry_kept = Ref::borrow(entry), bound_kept = Ref::borrow(bound);
    return execute(*as_segment(self)->recorded, launch) ? Py_NewRef(Py_None) : nullptr;
}

PyObject *set_computed(PyObject *self, PyObject *) {
    as_segment(self)->recorded->computed = true;
    Py_RETURN_NONE;
}

// fail(error, innocent=()): see the table of methods.
PyObject *fail(PyObject *self, PyObject *args) {
    PyObject *error, *positions = nullptr;
    if (!PyArg_ParseTuple(args, "O|O!:fail", &error, &PyTuple_Type, &positions))
        return nullptr;
    Recorded &recorded = *as_segment(self)->recorded;
    std::vector<bool> innocent(recorded.nodes.size());
    for (Py_ssize_t i = 0; positions && i < PyTuple_GET_SIZE(positions); i++) {
        const size_t position = PyLong_AsSize_t(PyTuple_GET_ITEM(positions, i));
        if (position == size_t(-1) && PyErr_Occurred())
            return nullptr;
        if (position < innocent.size())
            innocent[position] = true;
    }
    fail_recorded(recorded, error, innocent);
    Py_RETURN_NONE;
}

template <PyObject *Segment::*field, PyObject *make(const Recorded &)> PyObject *get(PyObject *self, void *) {
    PyObject *&slot = as_segment(self)->*field;
    if (!slot)
        slot = make(*as_segment(self)->recorded);
    return Py_XNewRef(slot);
}

PyObject *key_bytes(const Recorded &recorded) {
    return PyBytes_FromStringAndSize(recorded.key.data(), Py_ssize_t(recorded.key.size()));
}

PyGetSetDef fields[] = {
    {"nodes", get<&Segment::nodes, list_of_nodes>, nullptr, "The nodes in order (a list made when asked for).",
     nullptr},
    {"leaves", get<&Segment::leaves, list_of_leaves>, nullptr, "Its outside operands, as Leaf records.", nullptr},
    {"key", get<&Segment::key, key_bytes>, nullptr, "The structure without sizes, in canonical bytes.", nullptr},
    {"sizes", get<&Segment::sizes, tuple_of_sizes>, nullptr, "All sizes, in the order of the key.", nullptr},
    {"assignments", get<&Segment::assignments, list_of_assignments>, nullptr,
     "(weak reference to a handle, node, index) before each assignment.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef methods[] = {
    {"live", method<live>(), METH_NOARGS, "(position, output index) of every output that a handle stands for, in order."},
    {"settle", method<settle_all>(), METH_NOARGS,
     "The segment is computed: its nodes leave the tape, and only those whose gradient may still be asked for\n"
     "keep what they came from."},
    {"leaf_buffers", method<leaf_buffers>(), METH_NOARGS, "The values of its outside operands, as Buffers."},
    {"execute", method<execute_all>(), METH_VARARGS,
     "execute(entry, bound, keep): run a bound program; output n goes to place keep[n], (position, output index).\n"
     "Memory of operands that nothing else can reach is written over where the program may."},
    {"computed", method<set_computed>(), METH_NOARGS,
     "Every value is there: what goes wrong from now on takes none of them back. (`execute` says so itself.)"},
    {"fail", method<fail>(), METH_VARARGS,
     "fail(error, innocent=()): the segment failed. Assigned handles get back what they stood for, and every use\n"
     "of a value of the segment raises the given error, but for nodes at the positions `innocent`, which have\n"
     "theirs."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("What a flush takes from the tape.")},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {Py_tp_getset, fields},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Segment", sizeof(Segment), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

PyStructSequence_Field leaf_fields[] = {
    {"node", "The node."}, {"index", "Which of its outputs."}, {nullptr, nullptr}};
PyStructSequence_Desc leaf_description = {"rabbet.recorder._recorder.Leaf", "One outside operand of a segment.",
                                          leaf_fields, 2};

// A list of make(0), ..., make(n - 1).
template <class Make> PyObject *list_of(size_t n, Make make) {
    Ref list = Ref::steal(PyList_New(Py_ssize_t(n)));
    for (size_t i = 0; list && i < n; i++) {
        PyObject *item = make(i);
        if (!item)
            return nullptr;
        PyList_SET_ITEM(list.get(), Py_ssize_t(i), item);
    }
    return list.release();
}

PyObject *make_leaf(const Edge &edge) {
    PyObject *leaf = PyStructSequence_New(leaf_type);
    PyObject *index = leaf ? PyLong_FromLong(edge.index) : nullptr;
    if (!index) {
        Py_XDECREF(leaf);
        return nullptr;
    }
    PyStructSequence_SetItem(leaf, 0, Py_NewRef(py(edge.node)));
    PyStructSequence_SetItem(leaf, 1, index);
    return leaf;
}

} // namespace

void Recorded::end_reading() {
    for (const Edge &leaf : leaves)
        leaf.node->outputs[leaf.index].readers -= reads;
    reads = false;
}

void Recorded::release() {
    end_reading();
    Recorded old;
    std::swap(old, *this); // what is freed below may come back here
    for (Node *node : old.nodes)
        Py_DECREF(py(node));
    for (const Edge &leaf : old.leaves)
        Py_DECREF(py(leaf.node));
    for (const Assignment &assignment : old.assignments) {
        Py_DECREF(assignment.handle);
        Py_DECREF(py(assignment.node));
    }
}

PyObject *new_segment(Recorded *recorded) {
    PyObject *segment = segment_type->tp_alloc(segment_type, 0);
    if (segment)
        as_segment(segment)->recorded = recorded;
    return segment;
}

void settle_recorded(Recorded &recorded) {
    for (Node *node : recorded.nodes)
        settle(node);
    recorded.end_reading();
}

void fail_recorded(Recorded &recorded, PyObject *error, const std::vector<bool> &innocent) {
    if (recorded.computed)
        return settle_recorded(recorded);
    for (size_t i = recorded.assignments.size(); i-- > 0;) {
        const Assignment &assignment = recorded.assignments[i];
        if (const Ref handle = target_of(assignment.handle))
            move_handle(handle.as<Handle>(), assignment.node, assignment.index);
    }
    for (size_t i = 0; i < recorded.nodes.size(); i++) {
        Node *node = recorded.nodes[i];
        if (i < innocent.size() && innocent[i]) {
            settle(node);
            continue;
        }
        Py_CLEAR(node->tape);
        put(node->error, error);
        track(node);
        drop_edges(node);
    }
    recorded.end_reading();
}

void settle(Node *node) {
    Py_CLEAR(node->tape);
    if (!node->requires_grad || node->is_leaf || node->cut)
        drop_edges(node);
}

PyObject *list_of_nodes(const Recorded &recorded) {
    return list_of(recorded.nodes.size(), [&](size_t i) { return Py_NewRef(py(recorded.nodes[i])); });
}

PyObject *list_of_leaves(const Recorded &recorded) {
    return list_of(recorded.leaves.size(), [&](size_t i) { return make_leaf(recorded.leaves[i]); });
}

PyObject *tuple_of_sizes(const Recorded &recorded) {
    const Ref list =
        Ref::steal(list_of(recorded.sizes.size(), [&](size_t i) { return PyLong_FromLongLong(recorded.sizes[i]); }));
    return list ? PyList_AsTuple(list.get()) : nullptr;
}

PyObject *list_of_assignments(const Recorded &recorded) {
    return list_of(recorded.assignments.size(), [&](size_t i) {
        const Assignment &assignment = recorded.assignments[i];
        return Py_BuildValue("(OOi)", assignment.handle, assignment.node, int(assignment.index));
    });
}

bool define_segment(PyObject *module) {
    segment_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    leaf_type = PyStructSequence_NewType(&leaf_description);
    return segment_type && leaf_type && PyModule_AddObjectRef(module, "Segment", py(segment_type)) == 0 &&
           PyModule_AddObjectRef(module, "Leaf", py(leaf_type)) == 0;
}

} // namespace rabbet
