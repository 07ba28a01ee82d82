#include "key.h"

namespace rabbet {

bool Key::add_integer(PyObject *value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return false;
    add_tag(overflow ? 'I' : 'i');
    if (!overflow) {
        add(number);
        return true;
    }
    const Ref text = Ref::steal(PyNumber_ToBase(value, 16));
    return text && add_text(text.get());
}

bool Key::add_text(PyObject *value) {
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(value, &n);
    if (!text)
        return false;
    add(n);
    add(text, size_t(n));
    return true;
}

bool Key::add_items(PyObject *sequence) {
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    add(n);
    if (Py_EnterRecursiveCall(" in an attribute of an op"))
        return false;
    bool done = true;
    for (Py_ssize_t i = 0; done && i < n; i++)
        done = add_value(PySequence_Fast_GET_ITEM(sequence, i));
    Py_LeaveRecursiveCall();
    return done;
}

// Plain data by its type and bits (1, 1.0 and True differ, 0.0 and -0.0 too); everything else by identity.
bool Key::add_value(PyObject *value) {
    if (value == Py_None || PyBool_Check(value)) {
        add_tag(value == Py_None ? 'N' : value == Py_True ? 'T' : 'F');
        return true;
    }
    PyTypeObject *type = Py_TYPE(value);
    const bool exact = PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyUnicode_CheckExact(value) ||
                       PyTuple_CheckExact(value) || PyList_CheckExact(value) || PyDict_CheckExact(value);
    if (!exact && (PyLong_Check(value) || PyFloat_Check(value) || PyUnicode_Check(value))) {
        add_tag('t'); // an IntEnum or a NumPy float: its type, then its value
        add(type);
        identities_.push_back(py(type));
    }
    if (PyLong_Check(value))
        return add_integer(value);
    if (PyFloat_Check(value)) {
        add_tag('f');
        add(PyFloat_AS_DOUBLE(value));
        return true;
    }
    if (PyUnicode_Check(value)) {
        add_tag('s');
        return add_text(value);
    }
    if (PyTuple_CheckExact(value) || PyList_CheckExact(value)) {
        add_tag(PyTuple_CheckExact(value) ? '(' : '[');
        return add_items(value);
    }
    if (PyDict_CheckExact(value)) {
        add_tag('{');
        return add_dict(value);
    }
    add_tag('o');
    add(value);
    identities_.push_back(value);
    return true;
}

bool Key::add_dict(PyObject *dict) {
    add(PyDict_GET_SIZE(dict));
    if (Py_EnterRecursiveCall(" in an attribute of an op"))
        return false;
    bool done = true;
    Py_ssize_t i = 0;
    PyObject *name, *value;
    while (done && PyDict_Next(dict, &i, &name, &value))
        done = (PyUnicode_CheckExact(name) ? add_text(name) : add_value(name)) && add_value(value);
    Py_LeaveRecursiveCall();
    return done;
}

} // namespace rabbet
