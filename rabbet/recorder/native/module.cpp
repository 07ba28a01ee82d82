// The extension rabbet.recorder._recorder: handles, nodes, tapes, and recording on them.
#include "caller.h"
#include "entry.h"
#include "handle.h"
#include "known.h"
#include "memo.h"
#include "mode.h"
#include "prepared.h"
#include "pull.h"
#include "read.h"
#include "recipe.h"
#include "record.h"
#include "replay.h"
#include "residuals.h"
#include "singly.h"
#include "site.h"

#include <nanobind/nanobind.h>

namespace nb = nanobind;

namespace {

using namespace rabbet;

PyObject *configure(PyObject *, PyObject *args, PyObject *kwargs) {
    static const char *names[] = {"prepare", "handle", "flush", "cast", "eager", "scalar", "failed", "value",
                                  "learn",   "rule",   "add",   nullptr};
    PyObject *prepare = nullptr, *handle = nullptr, *flush = nullptr, *cast = nullptr;
    PyObject *scalar = hooks.scalar, *failed = hooks.failed, *value = hooks.value;
    PyObject *learn = hooks.learn, *rule = hooks.rule, *add = hooks.add;
    int eager = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OO!OOpOOOOOO:configure", const_cast<char **>(names), &prepare,
                                     &PyType_Type, &handle, &flush, &cast, &eager, &scalar, &failed, &value,
                                     &learn, &rule, &add))
        return nullptr;
    if (!prepare || !handle || !flush || !cast) {
        PyErr_SetString(PyExc_TypeError, "configure: prepare, handle, flush and cast are needed");
        return nullptr;
    }
    if (!PyType_IsSubtype(reinterpret_cast<PyTypeObject *>(handle), handle_type)) {
        PyErr_SetString(PyExc_TypeError, "configure: the handle type must be a subclass of Handle");
        return nullptr;
    }
    clear_memo(); // other rules may find otherwise
    clear_known();
    put(hooks.prepare, prepare);
    put(hooks.flush, flush);
    put(hooks.cast, cast);
    put(hooks.handle, handle);
    put(hooks.scalar, scalar);
    put(hooks.failed, failed);
    put(hooks.value, value);
    put(hooks.learn, learn);
    put(hooks.rule, rule);
    put(hooks.add, add);
    hooks.eager = eager != 0;
    Py_RETURN_NONE;
}

PyObject *current(PyObject *, PyObject *) { return Py_XNewRef(py(current_tape())); }

// (what, spec) -> a leaf; `what` goes where `keep` says.
template <class Keep> PyObject *make_leaf(PyObject *const *args, Py_ssize_t n, const char *name, Keep keep) {
    if (n != 2) {
        PyErr_Format(PyExc_TypeError, "%s: needs 2 arguments, %zd were given", name, n);
        return nullptr;
    }
    const bool spec_first = name[0] == 'l';
    const Ref specs = Ref::steal(PyTuple_Pack(1, args[spec_first ? 0 : 1]));
    Ref node = Ref::steal(specs ? new_leaf(specs.get()) : nullptr);
    return node && keep(node.as<Node>(), args[spec_first ? 1 : 0]) ? node.release() : nullptr;
}

PyObject *leaf_node(PyObject *, PyObject *const *args, Py_ssize_t n) {
    return make_leaf(args, n, "leaf_node", [](Node *node, PyObject *buffer) {
        node->buffers = PyList_New(1);
        if (node->buffers)
            PyList_SET_ITEM(node->buffers, 0, Py_NewRef(buffer));
        return node->buffers != nullptr;
    });
}

PyObject *scalar_node(PyObject *, PyObject *const *args, Py_ssize_t n) {
    return make_leaf(args, n, "scalar_node", [](Node *node, PyObject *number) {
        node->number = Py_NewRef(number);
        return true;
    });
}

PyObject *offset_node(PyObject *, PyObject *const *args, Py_ssize_t n) {
    return make_leaf(args, n, "offset_node", [](Node *node, PyObject *offset) {
        node->offset = Py_NewRef(offset);
        return true;
    });
}

// prepared(op, operands, attrs, form): what recording it would find.
PyObject *prepared_for(PyObject *, PyObject *args) {
    PyObject *op, *operands, *attrs, *form;
    if (!PyArg_ParseTuple(args, "OO!O!O!:prepared", &op, &PyTuple_Type, &operands, &PyDict_Type, &attrs, &PyTuple_Type,
                          &form))
        return nullptr;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(operands); i++) {
        PyObject *operand = PyTuple_GET_ITEM(operands, i);
        if (is_handle(operand) && !stands(reinterpret_cast<Handle *>(operand)))
            return nullptr;
    }
    return py(find_prepared({op, &PyTuple_GET_ITEM(operands, 0), PyTuple_GET_SIZE(operands), attrs, form}));
}

PyObject *forget(PyObject *, PyObject *) {
    clear_memo();
    Py_RETURN_NONE;
}

PyObject *count_nodes(PyObject *, PyObject *) { return PyLong_FromLongLong(nodes_alive()); }

PyObject *remembered(PyObject *, PyObject *) { return PyLong_FromSsize_t(memo_size()); }

PyMethodDef functions[] = {
    {"configure", method<configure>(), METH_VARARGS | METH_KEYWORDS,
     "Give the recorder what it must not know: shape rules, the Tensor type, how to run a segment."},
    {"arguments_key", method<arguments_key>(), METH_O,
     "arguments_key(arguments): bytes that tell a tuple of plain tensors from others by Specs, flags and the state of\n"
     "this thread's tape; None for other arguments, or where the tape records for somebody. Specs count by address."},
    {"current", method<current>(), METH_NOARGS, "This thread's tape."},
    {"leaf_node", method<leaf_node>(), METH_FASTCALL,
     "leaf_node(spec, buffer): a node that holds data from outside."},
    {"scalar_node", method<scalar_node>(), METH_FASTCALL,
     "scalar_node(number, spec): a node that holds a Python number as a run-time argument."},
    {"offset_node", method<offset_node>(), METH_FASTCALL,
     "offset_node(offset, spec): a node that holds the offset of a random draw."},
    {"record", method<record>(), METH_FASTCALL,
     "record(op, operands, attrs, form): append one op; Handles (or one Handle) of its visible outputs."},
    {"prepared", method<prepared_for>(), METH_VARARGS,
     "prepared(op, operands, attrs, form): what `record` would find, from `prepare` or remembered; nothing is recorded."},
    {"pull", method<pull>(), METH_VARARGS,
     "pull(roots, gradients, wanted, create_graph, retain_graph): send gradients from the roots back through every\n"
     "node that requires them, recording what rules say: [(node, output, sum of gradients), ...] of the leaves they\n"
     "reach, or, where `wanted` is a tuple of handles, of those, beyond which none is sent."},
    {"residuals", method<residuals>(), METH_VARARGS,
     "residuals(segment, roots): [(position, output), ...] of the segment's values that the gradients of `roots`, a\n"
     "list of such places, will read; None where a rule has no recipe and has to be asked itself."},
    {"flush_known", method<flush_if_known>(), METH_O,
     "flush_known(tape): compute what waits there if a program for it was remembered. False: it was not."},
    {"remember", method<remember>(), METH_VARARGS,
     "remember(segment, family, entry, bound, keep): how to compute segments like this one, with the same outputs\n"
     "alive, as long as `family` lives."},
    {"note_run", method<note_run>(), METH_VARARGS, "note_run(segment, entry): this was run last."},
    {"last_run", method<last_run>(), METH_NOARGS, "([(op name, site), ...], entry) of the segment that was run last, or None."},
    {"runs", method<runs>(), METH_NOARGS, "How many segments were run."},
    {"value", method<value_if_known>(), METH_O,
     "value(handle): its Buffer, computed now by a program that is known; None where Python must see to it."},
    {"elements", method<elements_if_known>(), METH_O,
     "elements(handle): nested lists of Python numbers, a number for a tensor without axes; None as for `value`."},
    {"number", method<number_if_known>(), METH_O,
     "number(handle): its only element; None as for `value`, and where there is not exactly one."},
    {"element", method<element_at_hand>(), METH_FASTCALL,
     "element(handle, key, spec, bytes): the element of so many bytes at `key`, an int for every axis, as a leaf of\n"
     "its own, where the handle's value is at hand; None where it has to be recorded."},
    {"nodes_alive", method<count_nodes>(), METH_NOARGS, "How many nodes there are; the garbage collector knows few of them."},
    {"clear_memo", method<forget>(), METH_NOARGS, "Forget what `prepare` answered."},
    {"forget_singles", method<forget_singles>(), METH_NOARGS, "Forget which programs compute single ops (see Steps)."},
    {"memo_size", method<remembered>(), METH_NOARGS, "How many answers of `prepare` are remembered."},
    {nullptr, nullptr, 0, nullptr},
};

} // namespace

NB_MODULE(_recorder, module) {
    module.doc() = "Handles, nodes, tapes, and recording on them.";
    PyObject *self = module.ptr();
    if (!load_runtime() || !prepare_sites() || !define_prepared(self) || !define_recipe(self) || !define_node(self) || !define_handle(self) ||
        !define_tape(self) || !define_segment(self) || !define_operator(self) || !define_caller(self) || !define_replay(self) || !define_steps(self) ||
        PyModule_AddFunctions(self, functions) != 0 ||
        PyModule_AddIntConstant(self, "MEMO_LIMIT", long(memo_limit)) != 0)
        throw nb::python_error();
    const auto checked = [](bool done) {
        if (!done)
            throw nb::python_error();
    };
    nb::class_<GradMode>(module, "GradMode", "Within it, ops record for gradients, or do not.")
        .def(nb::init<bool>(), nb::arg("enabled"))
        .def("__enter__", [checked](GradMode &mode) { checked(mode.enter()); })
        .def("__exit__", [checked](GradMode &mode, const nb::args &) { checked(mode.leave()); });
    nb::class_<Autocast>(module, "Autocast", "Within it, ops get operands of the dtype that autocast asks for, or None.")
        .def("__init__", [](Autocast *self, nb::handle narrow) { new (self) Autocast(narrow.is_none() ? nullptr : narrow.ptr()); },
             nb::arg("narrow").none())
        .def("__enter__", [checked](Autocast &mode) { checked(mode.enter()); })
        .def("__exit__", [checked](Autocast &mode, const nb::args &) { checked(mode.leave()); });
}
