// Reading values from Python.
#pragma once

#include <Python.h>

namespace rabbet {

// value(handle): its Buffer, computed now by a program that is known; None where Python must see to it.
PyObject *value_if_known(PyObject *module, PyObject *handle);

// elements(handle): the elements as nested lists of Python numbers (a number for a tensor without axes); None as above.
PyObject *elements_if_known(PyObject *module, PyObject *handle);

// number(handle): its only element; None as above, and where there is not exactly one.
PyObject *number_if_known(PyObject *module, PyObject *handle);

// element(handle, key, spec, bytes): the element of so many bytes at `key`, an int for every axis, as a leaf of its own,
// where the handle's value is at hand; None where it has to be recorded.
PyObject *element_at_hand(PyObject *module, PyObject *const *args, Py_ssize_t n);

} // namespace rabbet
