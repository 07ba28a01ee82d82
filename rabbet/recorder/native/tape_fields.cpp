// A tape's attributes, as Python sees them.
#include "tape.h"

namespace rabbet {

namespace {

Tape *as_tape(PyObject *object) { return reinterpret_cast<Tape *>(object); }

template <bool Tape::*flag> PyObject *get_flag(PyObject *self, void *) { return PyBool_FromLong(as_tape(self)->*flag); }

template <bool Tape::*flag> int set_flag(PyObject *self, PyObject *value, void *) {
    const int truth = value ? PyObject_IsTrue(value) : -1;
    if (truth < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a flag cannot be deleted");
        return -1;
    }
    as_tape(self)->*flag = truth != 0;
    return 0;
}

template <PyObject *make(const Recorded &)> PyObject *get(PyObject *self, void *) {
    return make(*as_tape(self)->recorded);
}

PyObject *get_key(PyObject *self, void *) {
    const std::string &key = as_tape(self)->recorded->key;
    return PyBytes_FromStringAndSize(key.data(), Py_ssize_t(key.size()));
}

PyObject *get_count(PyObject *self, void *) { return PyLong_FromLongLong(as_tape(self)->count()); }

template <PyObject *Tape::*field> PyObject *get_object(PyObject *self, void *) {
    return or_none(as_tape(self)->*field);
}

template <PyObject *Tape::*field> int set_object(PyObject *self, PyObject *value, void *) {
    put(as_tape(self)->*field, value);
    return 0;
}

PyObject *get_first_site(PyObject *self, void *) {
    const Tape *tape = as_tape(self);
    return tape->first_code ? Py_BuildValue("(Oi)", tape->first_code, tape->first_lasti) : Py_NewRef(Py_None);
}

} // namespace

PyGetSetDef tape_fields[] = {
    {"grad_enabled", get_flag<&Tape::grad_enabled>, set_flag<&Tape::grad_enabled>,
     "Whether ops record for gradients.", nullptr},
    {"flushing", get_flag<&Tape::flushing>, set_flag<&Tape::flushing>, "True while a segment of it is computed.",
     nullptr},
    {"capture", get_object<&Tape::capture>, set_object<&Tape::capture>, "A jit capture in progress, or None.",
     nullptr},
    {"interpreter", get_object<&Tape::interpreter>, set_object<&Tape::interpreter>,
     "Called as record() is, before anything is recorded; NotImplemented lets the tape record. Or None.", nullptr},
    {"narrow", get_object<&Tape::narrow>, nullptr, "The dtype that autocast asks for (see Op.autocast), or None.",
     nullptr},
    {"runner", get_object<&Tape::runner>, set_object<&Tape::runner>,
     "Called with (segment, live outputs) to compute each segment, or None: programs are looked up and run.", nullptr},
    {"count", get_count, nullptr, "How many nodes wait.", nullptr},
    {"first_site", get_first_site, nullptr, "Where the first of them was recorded.", nullptr},
    {"nodes", get<list_of_nodes>, nullptr, "The nodes that wait (a snapshot).", nullptr},
    {"leaves", get<list_of_leaves>, nullptr, "Their outside operands (a snapshot).", nullptr},
    {"sizes", get<tuple_of_sizes>, nullptr, "Their sizes so far.", nullptr},
    {"assignments", get<list_of_assignments>, nullptr, "Assignments since the first node (a snapshot).", nullptr},
    {"key", get_key, nullptr, "The key so far.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

} // namespace rabbet
