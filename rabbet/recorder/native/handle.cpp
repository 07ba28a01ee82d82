#include "handle.h"
#include "entry.h"

#include "record.h"
#include "tape.h"

#include <structmember.h>

#include <cstddef>

namespace rabbet {

PyTypeObject *handle_type = nullptr;

namespace {

Handle *as_handle(PyObject *object) { return reinterpret_cast<Handle *>(object); }

// (node, index=0) with an output of that number; false and an error.
bool parse_output(PyObject *args, PyObject *kwargs, const char *format, Node *&node, int &index) {
    static const char *names[] = {"node", "index", nullptr};
    PyObject *given = nullptr;
    index = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, const_cast<char **>(names), node_type, &given, &index))
        return false;
    node = reinterpret_cast<Node *>(given);
    if (index >= 0 && index < node->n_outputs)
        return true;
    PyErr_Format(PyExc_IndexError, "there is no output %d; the node has %d", index, node->n_outputs);
    return false;
}

void let_go(Handle *handle) {
    Node *node = handle->node;
    if (!node)
        return;
    node->outputs[handle->index].handles--;
    handle->node = nullptr;
    Py_DECREF(node);
}

int initialise(PyObject *self, PyObject *args, PyObject *kwargs) {
    Node *node;
    int index;
    if (PyTuple_GET_SIZE(args) == 0 || !PyObject_TypeCheck(PyTuple_GET_ITEM(args, 0), node_type)) {
        const char *type = Py_TYPE(self)->tp_name;
        PyErr_Format(PyExc_TypeError, "%s() is for recorded nodes; make tensors of data with asarray(data)", type);
        return -1;
    }
    if (!parse_output(args, kwargs, "O!|i:Handle", node, index))
        return -1;
    move_handle(as_handle(self), node, index);
    return 0;
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Handle *handle = as_handle(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(py(handle->node));
    Py_VISIT(handle->grad);
    Py_VISIT(handle->hooks);
    return 0;
}

int clear(PyObject *self) {
    Handle *handle = as_handle(self);
    let_go(handle);
    Py_CLEAR(handle->grad);
    Py_CLEAR(handle->hooks);
    return 0;
}

void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (as_handle(self)->weakrefs)
        PyObject_ClearWeakRefs(self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *emit(PyObject *, PyObject *const *args, Py_ssize_t n) { return record(nullptr, args, n); }

PyObject *settle_handle(PyObject *self, PyObject *args, PyObject *kwargs) {
    Node *node;
    int index;
    if (!parse_output(args, kwargs, "O!|i:settle", node, index))
        return nullptr;
    move_handle(as_handle(self), node, index);
    Py_RETURN_NONE;
}

PyObject *assign(PyObject *self, PyObject *other) {
    if (!is_handle(other)) {
        PyErr_Format(PyExc_TypeError, "assign: needs a Handle, not a %s", Py_TYPE(other)->tp_name);
        return nullptr;
    }
    Tape *tape = current_tape();
    if (!tape || !stands(as_handle(self)) || !stands(as_handle(other)) || !log_assignment(tape, self))
        return nullptr;
    move_handle(as_handle(self), as_handle(other)->node, as_handle(other)->index);
    Py_RETURN_NONE;
}

PyObject *get_node(PyObject *self, void *) {
    const Handle *handle = as_handle(self);
    if (handle->node)
        return Py_NewRef(py(handle->node));
    PyErr_SetString(PyExc_AttributeError, "_node: this handle stands for nothing");
    return nullptr;
}

PyMethodDef methods[] = {
    {"emit", method<emit>(), METH_FASTCALL,
     "emit(op, operands, attrs, form): record an op (the protocol by which ops reach tensors)."},
    {"settle", method<settle_handle>(), METH_VARARGS | METH_KEYWORDS,
     "settle(node, index=0): stand for a computed value from now on, outside any segment."},
    {"assign", method<assign>(), METH_O, "Stand for the value of another handle from now on (in-place update)."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef fields[] = {
    {"_node", get_node, nullptr, "What it stands for; `assign` and `settle` change it.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef members[] = {
    {"_index", T_INT, offsetof(Handle, index), READONLY, "Which output of the node."},
    {"_grad", T_OBJECT, offsetof(Handle, grad), 0, "The gradient summed up so far, a Handle or None."},
    {"_hooks", T_OBJECT, offsetof(Handle, hooks), 0, "For the layers above."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Handle, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("A user's reference to one output of a node. `rabbet.Tensor` is its subclass.")},
    {Py_tp_init, slot<initialise>()},
    {Py_tp_new, reinterpret_cast<void *>(PyType_GenericNew)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, fields},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Handle", sizeof(Handle), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};

} // namespace

PyObject *new_handle(Node *node, int32_t index) {
    PyTypeObject *type = hooks.handle;
    PyObject *self = type->tp_alloc(type, 0); // all zero, and tracked by the garbage collector
    if (self) {
        Py_INCREF(py(node));
        as_handle(self)->node = node;
        as_handle(self)->index = index;
        node->outputs[index].handles++;
    }
    return self;
}

void move_handle(Handle *handle, Node *node, int32_t index) {
    Node *old = handle->node;
    if (old)
        old->outputs[handle->index].handles--;
    Py_INCREF(py(node));
    handle->node = node;
    handle->index = index;
    node->outputs[index].handles++;
    Py_XDECREF(py(old));
}

bool stands(const Handle *handle) {
    if (handle->node)
        return true;
    PyErr_SetString(PyExc_TypeError, "a handle that was never initialised has no value");
    return false;
}

bool define_handle(PyObject *module) {
    handle_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return handle_type && PyModule_AddObjectRef(module, "Handle", py(handle_type)) == 0;
}

} // namespace rabbet
