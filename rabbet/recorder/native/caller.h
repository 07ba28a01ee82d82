// Caller: an op's user function for arguments of a kind met before: operands and attributes are told apart natively.
#pragma once

#include <Python.h>

namespace rabbet {

bool define_caller(PyObject *module);

} // namespace rabbet
