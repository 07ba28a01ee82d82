#include "record.h"

#include "execute.h"
#include "handle.h"
#include "prepared.h"

#include <cstdlib>

namespace rabbet {

Hooks hooks{};

namespace {

// The operand converted to the dtype that the op wants.
Ref cast(PyObject *operand, PyObject *dtype) {
    const Ref attrs = Ref::steal(PyDict_New());
    if (!attrs || PyDict_SetItemString(attrs.get(), "dtype", dtype) != 0)
        return {};
    return Ref::steal(record_call({hooks.cast, &operand, 1, attrs.get(), nullptr}));
}

// Is a number one of its dtype? What is too large must not wait in a segment, where it would take other values with it.
// False and an error.
bool in_range(PyObject *number, PyObject *spec) {
    if (!PyLong_CheckExact(number))
        return true;
    const SpecFacts *facts = facts_of_spec(spec);
    if (!facts)
        return false;
    return fits(number, facts->dtype) ||
           Ref::steal(PyObject_CallFunctionObjArgs(hooks.scalar, number, spec, nullptr)).get() != nullptr;
}

bool add_edge(Tape *tape, Node *node, Prepared *prepared, Py_ssize_t i, PyObject *operand) {
    Edge &edge = node->edges[i];
    if (!is_handle(operand)) {
        PyObject *specs = number_specs(prepared, i);
        if (!specs || !in_range(operand, PyTuple_GET_ITEM(specs, 0)))
            return false;
        edge = {number_node(specs, operand), 0};
        node->n_edges += edge.node != nullptr;
        return edge.node != nullptr;
    }
    if (tape->capture) {
        const Ref done = Ref::steal(PyObject_CallMethod(tape->capture, "touched", "O", operand));
        if (!done)
            return false;
    }
    Ref converted;
    const int convert = PyObject_IsTrue(PyTuple_GET_ITEM(prepared->casts, i));
    if (convert < 0)
        return false;
    if (convert) {
        converted = cast(operand, PyTuple_GET_ITEM(prepared->dtypes, i));
        if (!converted)
            return false;
        operand = converted.get();
        if (!is_handle(operand)) {
            PyErr_SetString(PyExc_TypeError, "configure: the cast op has more than one output");
            return false;
        }
    }
    const auto *handle = reinterpret_cast<Handle *>(operand);
    Py_INCREF(py(handle->node));
    edge = {handle->node, handle->index};
    node->n_edges++;
    return true;
}

// A node with room for the call's outputs, and its operands.
Node *make_node(Tape *tape, const Call &call, Prepared *prepared) {
    Node *node = new_node();
    if (!node)
        return nullptr;
    bool done = resize_outputs(node, PyTuple_GET_SIZE(prepared->specs)) && reserve_edges(node, call.n);
    for (Py_ssize_t i = 0; done && i < call.n; i++)
        done = add_edge(tape, node, prepared, i, call.operands[i]);
    if (!done) {
        Py_DECREF(py(node));
        return nullptr;
    }
    return node;
}

// In Python 3.11 a call moves from the CALL instruction to the PRECALL 4 bytes before it once it has been specialised.
bool is_same_site(const Tape *tape, const Site &site) {
    const int distance = std::abs(site.lasti - tape->first_lasti);
    return site.code.get() == tape->first_code && (distance == 0 || (PY_VERSION_HEX < 0x030C0000 && distance == 4));
}

// A segment that grew long or heavy ends where it began: a loop is then cut at the same place each time round.
bool is_full(const Tape *tape, const Site &site) {
    if (tape->flushing || (tape->count() < tape->limit && tape->pending_bytes < tape->byte_limit))
        return false;
    if (is_same_site(tape, site))
        return true;
    return tape->count() / 4 >= tape->limit || tape->pending_bytes / 4 >= tape->byte_limit;
}

PyObject *handles_of(Node *node, int visible) {
    if (visible == 1)
        return new_handle(node, 0);
    Ref handles = Ref::steal(PyTuple_New(visible));
    for (int i = 0; handles && i < visible; i++) {
        PyObject *handle = new_handle(node, i);
        if (!handle)
            return nullptr;
        PyTuple_SET_ITEM(handles.get(), i, handle);
    }
    return handles.release();
}

bool check_call(const Call &call) {
    if (!hooks.prepare) {
        PyErr_SetString(PyExc_RuntimeError, "record: the recorder was not configured");
        return false;
    }
    for (Py_ssize_t i = 0; i < call.n; i++)
        if (is_handle(call.operands[i]) && !stands(reinterpret_cast<Handle *>(call.operands[i])))
            return false;
    return true;
}

} // namespace

Node *number_node(PyObject *specs, PyObject *number) {
    Node *node = new_leaf(specs);
    if (node)
        node->number = Py_NewRef(number);
    return node;
}

bool end_if_full(Tape *tape, const Site &site) { return !is_full(tape, site) || flush(tape); }

bool put_on_tape(Tape *tape, Node *node, const Call &call, Prepared *prepared, const Site &site) {
    if (!make_ready(tape, node))
        return false;
    node->op = Py_NewRef(call.op);
    node->attrs = Py_XNewRef(call.attrs);
    node->form = Py_XNewRef(call.form);
    Py_INCREF(prepared);
    node->prepared = prepared;
    node->specs = Py_NewRef(prepared->specs);
    node->sequence = next_sequence(); // after the casts
    if (tape->grad_enabled && prepared->any_differentiable)
        for (int32_t i = 0; i < node->n_edges; i++)
            node->requires_grad |= node->edges[i].node->requires_grad;
    node->code = Py_XNewRef(site.code.get());
    node->lasti = site.lasti;
    if (!append(tape, node))
        return false;
    count_retained(node);
    return true;
}

// What the tape's interpreter makes of the call: handles, NotImplemented, or nullptr and an error.
static PyObject *interpreted(PyObject *interpreter, const Call &call) {
    const Ref kept = Ref::borrow(interpreter);
    const Ref operands = Ref::steal(PyTuple_New(call.n));
    for (Py_ssize_t i = 0; operands && i < call.n; i++)
        PyTuple_SET_ITEM(operands.get(), i, Py_NewRef(call.operands[i]));
    const Ref attrs = call.attrs ? Ref::borrow(call.attrs) : Ref::steal(PyDict_New());
    const Ref form = call.form ? Ref::borrow(call.form) : Ref::steal(PyTuple_New(0));
    if (!operands || !attrs || !form)
        return nullptr;
    return PyObject_CallFunctionObjArgs(interpreter, call.op, operands.get(), attrs.get(), form.get(), nullptr);
}

PyObject *record_call(const Call &asked) {
    Tape *thread_tape = current_tape();
    Call call = asked;
    call.narrow = thread_tape ? thread_tape->narrow : nullptr;
    const Ref narrow = Ref::borrow(call.narrow); // `prepare` is Python: it may end the block
    if (thread_tape && thread_tape->interpreter) {
        Ref made = Ref::steal(interpreted(thread_tape->interpreter, call));
        if (made.get() != Py_NotImplemented)
            return made.release();
    }
    if (!thread_tape || !check_call(call))
        return nullptr;
    const Ref tape_kept = Ref::borrow(thread_tape), prepared = Ref::steal(find_prepared(call));
    Tape *tape = tape_kept.as<Tape>();
    if (!prepared)
        return nullptr;
    const Site site = user_site();
    if (!end_if_full(tape, site))
        return nullptr;
    const Ref kept = Ref::steal(make_node(tape, call, prepared.as<Prepared>()));
    Node *node = kept.as<Node>();
    if (!node || !put_on_tape(tape, node, call, prepared.as<Prepared>(), site))
        return nullptr;
    Ref outputs = Ref::steal(handles_of(node, prepared.as<Prepared>()->visible));
    if (outputs && hooks.eager && !tape->flushing && !flush(tape))
        return nullptr;
    return outputs.release();
}

PyObject *record(PyObject *, PyObject *const *args, Py_ssize_t n) {
    if (n != 4) {
        PyErr_Format(PyExc_TypeError, "record: needs (op, operands, attrs, form), %zd arguments were given", n);
        return nullptr;
    }
    if (!PyDict_Check(args[2]) || !PyTuple_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "record: attrs is a dict, form a tuple");
        return nullptr;
    }
    const Ref operands = Ref::steal(PySequence_Tuple(args[1])); // a list could change meanwhile
    if (!operands)
        return nullptr;
    return record_call(
        {args[0], &PyTuple_GET_ITEM(operands.get(), 0), PyTuple_GET_SIZE(operands.get()), args[2], args[3]});
}

} // namespace rabbet
