// Life of nodes: making, counting, and freeing chains of any length without recursion.
#include "node.h"
#include "entry.h"
#include "ref.h"

#include "prepared.h"
#include "tape.h"

#include <structmember.h>

#include <cstddef>
#include <cstring>
#include <vector>

namespace rabbet {

PyTypeObject *node_type = nullptr;

namespace {

int64_t sequence = 0, alive = 0;

// Memory of freed nodes, for the next ones. Python counts what is allocated and looks for cycles after so and so many;
// a step records thousands of nodes that it never needs to look at.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t most_spare = 0; // so that whoever uses a freed node is found out
#else
constexpr size_t most_spare = 8192;
#endif
std::vector<Node *> spare;

void give_back(Node *node) {
    if (spare.size() < most_spare)
        spare.push_back(node);
    else
        PyObject_GC_Del(node);
}

Node *allocate() {
    if (spare.empty())
        return PyObject_GC_New(Node, node_type);
    Node *node = spare.back();
    spare.pop_back();
    PyObject_Init(py(node), node_type);
    return node;
}

// References that freed nodes held: given back one after the other by the outermost call, so that a chain of a
// million nodes does not need a million stack frames.
std::vector<Node *> orphans;
bool draining = false;

void release_orphans() {
    if (draining)
        return;
    draining = true;
    while (!orphans.empty()) {
        Node *node = orphans.back();
        orphans.pop_back();
        Py_DECREF(node);
    }
    draining = false;
    if (orphans.capacity() > 65536)
        orphans.shrink_to_fit();
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    // op, prepared, specs, attributes, code and numbers are plain data: no way leads back from them.
    auto *node = reinterpret_cast<Node *>(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(node->buffers);
    Py_VISIT(node->owner);
    Py_VISIT(node->error);
    Py_VISIT(py(node->tape));
    for (int32_t i = 0; i < node->n_edges; i++)
        Py_VISIT(py(node->edges[i].node));
    return 0;
}

int clear(PyObject *self) {
    auto *node = reinterpret_cast<Node *>(self);
    drop_edges(node);
    Py_CLEAR(node->buffers);
    Py_CLEAR(node->owner);
    Py_CLEAR(node->error);
    Py_CLEAR(node->tape);
    return 0;
}

void dealloc(PyObject *self) {
    auto *node = reinterpret_cast<Node *>(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (node->weakrefs)
        PyObject_ClearWeakRefs(self);
    clear(self);
    Py_XDECREF(node->op);
    Py_XDECREF(node->attrs);
    Py_XDECREF(node->form);
    Py_XDECREF(py(node->prepared));
    Py_XDECREF(node->specs);
    Py_XDECREF(node->number);
    Py_XDECREF(node->offset);
    Py_XDECREF(node->code);
    if (node->edges != node->few_edges)
        PyMem_Free(node->edges);
    if (node->outputs != &node->one_output)
        PyMem_Free(node->outputs);
    give_back(node);
    alive--;
    Py_DECREF(type);
}

PyObject *create(PyTypeObject *, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Node() takes no arguments");
        return nullptr;
    }
    return py(new_node());
}

PyObject *is_exclusive(PyObject *self, PyObject *argument) {
    auto *node = reinterpret_cast<Node *>(self);
    const Py_ssize_t index = PyNumber_AsSsize_t(argument, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return nullptr;
    if (index < 0 || index >= node->n_outputs) {
        PyErr_Format(PyExc_IndexError, "exclusive: there are %d outputs, not one of number %zd", node->n_outputs,
                     index);
        return nullptr;
    }
    const Output &output = node->outputs[index];
    return PyBool_FromLong(output.handles == 0 && output.retained == 0 && output.readers <= 1);
}

PyMethodDef methods[] = {
    {"exclusive", method<is_exclusive>(), METH_O,
     "True where nothing but at most one segment that waits or runs may read the buffer of output `index`:\n"
     "no handle stands for it, no gradient may need it, no second segment has it as an operand."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Node, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(
                    "One recorded op, or a leaf (op None): its outputs' Specs, buffers, and how many handles are "
                    "alive.")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, node_fields},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Node", sizeof(Node), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                    slots};

} // namespace

int64_t next_sequence() { return sequence++; }

Node *new_node() {
    Node *node = allocate();
    if (!node)
        return nullptr;
    std::memset(reinterpret_cast<char *>(node) + sizeof(PyObject), 0, sizeof(Node) - sizeof(PyObject));
    node->edges = node->few_edges;
    node->outputs = &node->one_output;
    node->position = -1;
    node->sequence = next_sequence();
    alive++;
    return node;
}

void track(Node *node) {
    if (!PyObject_GC_IsTracked(py(node)))
        PyObject_GC_Track(py(node));
}

int64_t nodes_alive() { return alive; }

PyObject *no_buffers(const Node *node) {
    PyObject *list = PyList_New(node->n_outputs);
    for (int32_t i = 0; list && i < node->n_outputs; i++)
        PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
    if (list)
        PyObject_GC_UnTrack(list);
    return list;
}

Node *new_leaf(PyObject *specs) {
    Node *node = new_node();
    if (!node)
        return nullptr;
    node->n_outputs = 1;
    node->specs = Py_NewRef(specs);
    return node;
}

PyObject *make_leaf_of(PyObject *spec, PyObject *buffer) {
    const Ref specs = Ref::steal(PyTuple_Pack(1, spec));
    Ref node = Ref::steal(specs ? new_leaf(specs.get()) : nullptr);
    PyObject *buffers = node ? PyList_New(1) : nullptr;
    if (!buffers)
        return nullptr;
    PyList_SET_ITEM(buffers, 0, Py_NewRef(buffer));
    node.as<Node>()->buffers = buffers;
    return node.release();
}

bool resize_outputs(Node *node, Py_ssize_t n) {
    if (n > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a node has at most 2**31 - 1 outputs");
        return false;
    }
    if (n <= node->n_outputs) // never fewer: handles may count there
        return true;
    if (n > 1) {
        auto *outputs = static_cast<Output *>(PyMem_Calloc(size_t(n), sizeof(Output)));
        if (!outputs) {
            PyErr_NoMemory();
            return false;
        }
        std::memcpy(outputs, node->outputs, size_t(node->n_outputs) * sizeof(Output));
        if (node->outputs != &node->one_output)
            PyMem_Free(node->outputs);
        node->outputs = outputs;
    }
    node->n_outputs = int32_t(n);
    return true;
}

bool reserve_edges(Node *node, Py_ssize_t n) {
    if (n <= 2)
        return true;
    node->edges = static_cast<Edge *>(PyMem_Calloc(size_t(n), sizeof(Edge)));
    if (node->edges)
        return true;
    node->edges = node->few_edges;
    PyErr_NoMemory();
    return false;
}

void count_retained(Node *node) {
    const bool holds = node->n_edges > 0 && node->requires_grad && !node->is_leaf && !node->cut;
    if (holds == node->holds)
        return;
    node->holds = holds;
    for (int32_t i = 0; i < node->n_edges; i++)
        node->edges[i].node->outputs[node->edges[i].index].retained += holds ? 1 : -1;
}

void drop_edges(Node *node) {
    const int32_t n = node->n_edges;
    if (n == 0)
        return;
    if (node->holds)
        for (int32_t i = 0; i < n; i++)
            node->edges[i].node->outputs[node->edges[i].index].retained--;
    node->holds = false;
    node->n_edges = 0;
    for (int32_t i = 0; i < n; i++)
        orphans.push_back(node->edges[i].node);
    if (node->edges != node->few_edges)
        PyMem_Free(node->edges);
    node->edges = node->few_edges;
    release_orphans();
}

bool define_node(PyObject *module) {
    spare.reserve(most_spare); // freeing must not need memory
    node_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return node_type && PyModule_AddObjectRef(module, "Node", py(node_type)) == 0;
}

} // namespace rabbet
