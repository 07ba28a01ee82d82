#include "prepared.h"
#include "entry.h"

#include "recipe.h"
#include "singly.h"

#include <structmember.h>

#include <cstddef>

namespace rabbet {

PyTypeObject *prepared_type = nullptr;

namespace {

// The sum of the Specs' sizes in bytes; what is too large to count is as large as can be.
bool sum_bytes(PyObject *specs, int64_t &total) {
    total = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(specs); i++) {
        const Ref bytes = Ref::steal(PyObject_GetAttrString(PyTuple_GET_ITEM(specs, i), "nbytes"));
        if (!bytes)
            return false;
        int overflow = 0;
        const int64_t n = PyLong_AsLongLongAndOverflow(bytes.get(), &overflow);
        if (n == -1 && PyErr_Occurred())
            return false;
        if (overflow || __builtin_add_overflow(total, n, &total)) {
            total = INT64_MAX;
            return true;
        }
    }
    return true;
}

bool as_integers(PyObject *tuple, std::vector<int64_t> &numbers) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        numbers.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i)));
        if (numbers.back() == -1 && PyErr_Occurred())
            return false;
    }
    return true;
}

bool fill(Prepared *self) {
    if (PyBytes_GET_SIZE(self->code) != code_bytes) {
        PyErr_Format(PyExc_ValueError, "Prepared: the code has %zd bytes, not %zd", PyBytes_GET_SIZE(self->code),
                     code_bytes);
        return false;
    }
    const Py_ssize_t operands = PyTuple_GET_SIZE(self->dtypes), outputs = PyTuple_GET_SIZE(self->specs);
    if (PyTuple_GET_SIZE(self->casts) != operands || PyTuple_GET_SIZE(self->differentiable) != outputs) {
        PyErr_SetString(PyExc_ValueError,
                        "Prepared: casts go with dtypes, and differentiable with specs, one for one");
        return false;
    }
    if (self->visible < 1 || self->visible > outputs) {
        PyErr_Format(PyExc_ValueError, "Prepared: %d of %zd outputs visible", self->visible, outputs);
        return false;
    }
    for (Py_ssize_t i = 0; i < outputs; i++) {
        const int truth = PyObject_IsTrue(PyTuple_GET_ITEM(self->differentiable, i));
        if (truth < 0)
            return false;
        self->any_differentiable |= truth != 0;
    }
    self->numbers = new std::vector<int64_t>;
    self->recipes = new Recipes;
    self->singles = new std::vector<std::weak_ptr<Single>>;
    self->number_specs = new std::vector<PyObject *>(size_t(operands));
    return as_integers(self->sizes, *self->numbers) && sum_bytes(self->specs, self->nbytes);
}

PyObject *create(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static const char *names[] = {"dtypes", "specs", "code", "sizes", "visible", "differentiable", "casts", nullptr};
    PyObject *dtypes, *specs, *code, *sizes, *differentiable, *casts;
    int visible;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!SO!iO!O!:Prepared", const_cast<char **>(names), &PyTuple_Type,
                                     &dtypes, &PyTuple_Type, &specs, &code, &PyTuple_Type, &sizes, &visible,
                                     &PyTuple_Type, &differentiable, &PyTuple_Type, &casts))
        return nullptr;
    auto *self = reinterpret_cast<Prepared *>(type->tp_alloc(type, 0)); // all zero
    if (!self)
        return nullptr;
    self->dtypes = Py_NewRef(dtypes);
    self->specs = Py_NewRef(specs);
    self->code = Py_NewRef(code);
    self->sizes = Py_NewRef(sizes);
    self->differentiable = Py_NewRef(differentiable);
    self->casts = Py_NewRef(casts);
    self->visible = visible;
    if (!fill(self)) {
        Py_DECREF(self);
        return nullptr;
    }
    return py(self);
}

void dealloc(PyObject *object) {
    auto *self = reinterpret_cast<Prepared *>(object);
    PyTypeObject *type = Py_TYPE(object);
    for (PyObject *field : {self->dtypes, self->specs, self->code, self->sizes, self->differentiable, self->casts})
        Py_XDECREF(field);
    if (self->number_specs)
        for (PyObject *specs : *self->number_specs)
            Py_XDECREF(specs);
    delete self->number_specs;
    delete self->recipes;
    delete self->singles;
    delete self->numbers;
    type->tp_free(object);
    Py_DECREF(type);
}

PyMemberDef members[] = {
    {"dtypes", T_OBJECT_EX, offsetof(Prepared, dtypes), READONLY,
     "Wanted dtype of each tensor operand; the 0-d Spec of a number."},
    {"specs", T_OBJECT_EX, offsetof(Prepared, specs), READONLY, "Interned Specs of all outputs, residuals last."},
    {"code", T_OBJECT_EX, offsetof(Prepared, code), READONLY, "16 bytes that stand for op, static attributes, form."},
    {"sizes", T_OBJECT_EX, offsetof(Prepared, sizes), READONLY, "Size attributes, flattened."},
    {"visible", T_INT, offsetof(Prepared, visible), READONLY, "Outputs the caller sees."},
    {"differentiable", T_OBJECT_EX, offsetof(Prepared, differentiable), READONLY, "Per output."},
    {"casts", T_OBJECT_EX, offsetof(Prepared, casts), READONLY,
     "Per operand: True for a tensor whose dtype must be converted."},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("What `prepare` found for one (op, operand kinds, attributes).")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Prepared", sizeof(Prepared), 0, Py_TPFLAGS_DEFAULT, slots};

} // namespace

PyObject *number_specs(Prepared *prepared, Py_ssize_t i) {
    PyObject *&known = (*prepared->number_specs)[size_t(i)];
    if (!known)
        known = PyTuple_Pack(1, PyTuple_GET_ITEM(prepared->dtypes, i));
    return known;
}

bool define_prepared(PyObject *module) {
    prepared_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return prepared_type && PyModule_AddObjectRef(module, "Prepared", py(prepared_type)) == 0;
}

} // namespace rabbet
