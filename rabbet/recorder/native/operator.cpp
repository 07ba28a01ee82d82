// Operator: a special method of a one- or two-operand op without attributes, from the interpreter to the tape
// without a Python frame in between.
#include "entry.h"
#include "handle.h"
#include "record.h"

#include <structmember.h>

#include <cstddef>

namespace rabbet {

namespace {

struct Operator {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *op, *convert;
    bool unary, swapped;
};

PyTypeObject *operator_type = nullptr;

Operator *as_operator(PyObject *object) { return reinterpret_cast<Operator *>(object); }

bool is_number(PyObject *object) {
    return PyFloat_CheckExact(object) || PyLong_CheckExact(object) || PyBool_Check(object) ||
           PyComplex_CheckExact(object);
}

PyObject *call_binary(const Operator *self, PyObject *left, PyObject *right) {
    Ref converted;
    if (!is_handle(right) && !is_number(right)) {
        if (self->convert == Py_None)
            return Py_NewRef(Py_NotImplemented);
        converted = Ref::steal(PyObject_CallOneArg(self->convert, right));
        if (!converted || converted.get() == Py_NotImplemented)
            return converted.release();
        right = converted.get();
    }
    PyObject *operands[] = {self->swapped ? right : left, self->swapped ? left : right};
    return record_call({self->op, operands, 2, nullptr, nullptr});
}

PyObject *call(PyObject *object, PyObject *const *args, size_t flags, PyObject *names) {
    const Operator *self = as_operator(object);
    const Py_ssize_t n = PyVectorcall_NARGS(flags), expected = self->unary ? 1 : 2;
    if (n != expected || (names && PyTuple_GET_SIZE(names))) {
        PyErr_Format(PyExc_TypeError, "an operator of %zd operands got %zd arguments", expected, n);
        return nullptr;
    }
    if (!is_handle(args[0])) {
        PyErr_Format(PyExc_TypeError, "an operator of tensors got a %s", Py_TYPE(args[0])->tp_name);
        return nullptr;
    }
    if (self->unary)
        return record_call({self->op, args, 1, nullptr, nullptr});
    return call_binary(self, args[0], args[1]);
}

PyObject *create(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static const char *names[] = {"op", "operands", "swapped", "convert", nullptr};
    PyObject *op, *convert = Py_None;
    int operands, swapped = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oi|pO:Operator", const_cast<char **>(names), &op, &operands,
                                     &swapped, &convert))
        return nullptr;
    if (operands != 1 && operands != 2) {
        PyErr_SetString(PyExc_ValueError, "Operator: one or two operands");
        return nullptr;
    }
    auto *self = reinterpret_cast<Operator *>(type->tp_alloc(type, 0));
    if (!self)
        return nullptr;
    self->call = &Entry<call>::call;
    self->op = Py_NewRef(op);
    self->convert = Py_NewRef(convert);
    self->unary = operands == 1;
    self->swapped = swapped != 0;
    return py(self);
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_operator(self)->op);
    Py_VISIT(as_operator(self)->convert);
    return 0;
}

int clear(PyObject *self) {
    Py_CLEAR(as_operator(self)->op);
    Py_CLEAR(as_operator(self)->convert);
    return 0;
}

void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *bind(PyObject *self, PyObject *instance, PyObject *) {
    return instance ? PyMethod_New(self, instance) : Py_NewRef(self);
}

template <const char *const &attribute> PyObject *of_op(PyObject *self, void *) {
    return PyObject_GetAttrString(as_operator(self)->op, attribute);
}

const char *const name = "__name__";
const char *const doc = "__doc__";
const char *const signature = "signature";

PyGetSetDef fields[] = {
    {"__name__", of_op<name>, nullptr, "The op's name.", nullptr},
    {"__doc__", of_op<doc>, nullptr, "The op's documentation.", nullptr},
    {"__signature__", of_op<signature>, nullptr, "The op's signature, for inspect.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Operator, call), READONLY, nullptr},
    {"op", T_OBJECT, offsetof(Operator, op), READONLY, "The op that is recorded."},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot<create>()},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_descr_get, slot<bind>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_getset, fields},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Operator", sizeof(Operator), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                        Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE,
                    slots};

} // namespace

bool define_operator(PyObject *module) {
    operator_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return operator_type && PyModule_AddObjectRef(module, "Operator", py(operator_type)) == 0;
}

} // namespace rabbet
