// A node's attributes, as Python sees them.
#include "node.h"
#include "prepared.h"
#include "tape.h"

namespace rabbet {

namespace {

Node *as_node(PyObject *object) { return reinterpret_cast<Node *>(object); }

int refuse(const char *what) {
    PyErr_SetString(PyExc_TypeError, what);
    return -1;
}

// Attributes that hold any object, None for nothing.
template <PyObject *Node::*field> PyObject *get_object(PyObject *self, void *) {
    return or_none(as_node(self)->*field);
}

template <PyObject *Node::*field> int set_object(PyObject *self, PyObject *value, void *) {
    put(as_node(self)->*field, value);
    return 0;
}

int set_error(PyObject *self, PyObject *value, void *) {
    put(as_node(self)->error, value);
    track(as_node(self));
    return 0;
}

template <bool Node::*flag> PyObject *get_flag(PyObject *self, void *) { return PyBool_FromLong(as_node(self)->*flag); }

template <bool Node::*flag> int set_flag(PyObject *self, PyObject *value, void *) {
    const int truth = value ? PyObject_IsTrue(value) : -1;
    if (truth < 0)
        return PyErr_Occurred() ? -1 : refuse("a flag cannot be deleted");
    as_node(self)->*flag = truth != 0;
    count_retained(as_node(self));
    return 0;
}

PyObject *get_attrs(PyObject *self, void *) {
    Node *node = as_node(self);
    if (!node->attrs)
        node->attrs = PyDict_New();
    return Py_XNewRef(node->attrs);
}

PyObject *get_form(PyObject *self, void *) {
    const Node *node = as_node(self);
    return node->form ? Py_NewRef(node->form) : PyTuple_New(0);
}

PyObject *get_inputs(PyObject *self, void *) {
    const Node *node = as_node(self);
    Ref inputs = Ref::steal(PyTuple_New(node->n_edges));
    for (int32_t i = 0; inputs && i < node->n_edges; i++) {
        PyObject *input = Py_BuildValue("(Oi)", node->edges[i].node, int(node->edges[i].index));
        if (!input)
            return nullptr;
        PyTuple_SET_ITEM(inputs.get(), i, input);
    }
    return inputs.release();
}

int set_inputs(PyObject *self, PyObject *value, void *) {
    Node *node = as_node(self);
    if (!value || !PyTuple_Check(value))
        return refuse("inputs: needs a tuple of (Node, index)");
    const Py_ssize_t n = PyTuple_GET_SIZE(value);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *source;
        int index;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(value, i), "O!i:inputs", node_type, &source, &index))
            return -1;
        if (index < 0 || index >= as_node(source)->n_outputs)
            return refuse("inputs: there is no such output");
    }
    const Ref keep = Ref::borrow(value);
    drop_edges(node);
    if (!reserve_edges(node, n))
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *input = PyTuple_GET_ITEM(value, i);
        const long index = PyLong_AsLong(PyTuple_GET_ITEM(input, 1));
        node->edges[i] = {as_node(Py_NewRef(PyTuple_GET_ITEM(input, 0))), int32_t(index)};
    }
    node->n_edges = int32_t(n);
    count_retained(node);
    return 0;
}

PyObject *get_specs(PyObject *self, void *) {
    const Node *node = as_node(self);
    return node->specs ? Py_NewRef(node->specs) : PyTuple_New(0);
}

int set_specs(PyObject *self, PyObject *value, void *) {
    Node *node = as_node(self);
    if (!value || !PyTuple_Check(value))
        return refuse("specs: needs a tuple");
    if (PyTuple_GET_SIZE(value) < node->n_outputs)
        return refuse("specs: a node never has fewer outputs than before");
    if (!resize_outputs(node, PyTuple_GET_SIZE(value)))
        return -1;
    put(node->specs, value);
    return 0;
}

PyObject *get_buffers(PyObject *self, void *) {
    Node *node = as_node(self);
    if (!node->buffers)
        node->buffers = no_buffers(node);
    return Py_XNewRef(node->buffers);
}

int set_buffers(PyObject *self, PyObject *value, void *) {
    if (!value || !PyList_Check(value))
        return refuse("buffers: needs a list");
    put(as_node(self)->buffers, value);
    return 0;
}

PyObject *get_handles(PyObject *self, void *) {
    const Node *node = as_node(self);
    Ref counts = Ref::steal(PyTuple_New(node->n_outputs));
    for (int32_t i = 0; counts && i < node->n_outputs; i++) {
        PyObject *count = PyLong_FromLong(node->outputs[i].handles);
        if (!count)
            return nullptr;
        PyTuple_SET_ITEM(counts.get(), i, count);
    }
    return counts.release();
}

int set_handles(PyObject *self, PyObject *value, void *) {
    Node *node = as_node(self);
    if (!value || !PyList_Check(value) || PyList_GET_SIZE(value) != node->n_outputs)
        return refuse("handles: needs a list with one count per output");
    for (int32_t i = 0; i < node->n_outputs; i++) {
        const long count = PyLong_AsLong(PyList_GET_ITEM(value, i));
        if (count == -1 && PyErr_Occurred())
            return -1;
        node->outputs[i].handles = int32_t(count);
    }
    return 0;
}

PyObject *get_prepared(PyObject *self, void *) { return or_none(py(as_node(self)->prepared)); }

int set_prepared(PyObject *self, PyObject *value, void *) {
    if (!value || (value != Py_None && !Py_IS_TYPE(value, prepared_type)))
        return refuse("prepared: needs a Prepared or None");
    put(as_node(self)->prepared, value);
    return 0;
}

PyObject *get_site(PyObject *self, void *) {
    const Node *node = as_node(self);
    return node->code ? Py_BuildValue("(Oi)", node->code, int(node->lasti)) : Py_NewRef(Py_None);
}

int set_site(PyObject *self, PyObject *value, void *) {
    PyObject *code = nullptr;
    int lasti = 0;
    if (!value || (value != Py_None && (!PyTuple_Check(value) || !PyArg_ParseTuple(value, "Oi:site", &code, &lasti))))
        return PyErr_Occurred() ? -1 : refuse("site: needs (code, instruction offset) or None");
    put(as_node(self)->code, code);
    as_node(self)->lasti = lasti;
    return 0;
}

PyObject *get_tape(PyObject *self, void *) { return or_none(py(as_node(self)->tape)); }

int set_tape(PyObject *self, PyObject *value, void *) {
    if (value != Py_None)
        return refuse("tape: can only be set to None; recording puts nodes on tapes");
    Py_CLEAR(as_node(self)->tape);
    return 0;
}

PyObject *is_pending(PyObject *self, void *) { return PyBool_FromLong(as_node(self)->tape != nullptr); }

PyObject *get_position(PyObject *self, void *) { return PyLong_FromLong(as_node(self)->position); }

PyObject *get_sequence(PyObject *self, void *) { return PyLong_FromLongLong(as_node(self)->sequence); }

} // namespace

#define RABBET_OBJECT(name, doc) {#name, get_object<&Node::name>, set_object<&Node::name>, doc, nullptr}
#define RABBET_FLAG(name, doc) {#name, get_flag<&Node::name>, set_flag<&Node::name>, doc, nullptr}

PyGetSetDef node_fields[] = {
    RABBET_OBJECT(op, "The op; None for a leaf."),
    {"attrs", get_attrs, set_object<&Node::attrs>, "Its attributes by name.", nullptr},
    {"form", get_form, set_object<&Node::form>, "One number per operand parameter, or ().", nullptr},
    {"inputs", get_inputs, set_inputs, "Operands as (Node, output index).", nullptr},
    {"specs", get_specs, set_specs, "Specs of all outputs.", nullptr},
    {"buffers", get_buffers, set_buffers, "One Buffer or None per output.", nullptr},
    {"handles", get_handles, set_handles, "How many handles stand for each output (a snapshot).", nullptr},
    {"prepared", get_prepared, set_prepared, "What the rules found for it.", nullptr},
    {"site", get_site, set_site, "(code, instruction offset) of the user's line, or None.", nullptr},
    {"tape", get_tape, set_tape, "The tape it waits on, or None.", nullptr},
    {"pending", is_pending, nullptr, "True while the node waits on a tape.", nullptr},
    {"position", get_position, nullptr, "Its number in its segment, -1 for leaves.", nullptr},
    {"sequence", get_sequence, nullptr, "Later nodes have larger numbers.", nullptr},
    RABBET_OBJECT(owner, "Weak reference to the Handle that gets the gradient; the generator of an offset."),
    {"error", get_object<&Node::error>, set_error, "What every use of its value raises: its segment failed.", nullptr},
    RABBET_OBJECT(number, "The Python number that a scalar leaf holds."),
    RABBET_OBJECT(offset, "The offset of a random draw that a leaf holds."),
    RABBET_FLAG(requires_grad, "Gradients flow to or through it."),
    RABBET_FLAG(is_leaf, "Gradients stop here and go to `owner`."),
    RABBET_FLAG(cut, "backward() went through and freed the edges."),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

} // namespace rabbet
