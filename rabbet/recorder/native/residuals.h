// Residuals: which values of a segment the gradients of its outputs will read, told from recipes alone.
#pragma once

#include "ref.h"

namespace rabbet {

// residuals(segment, roots), from Python; see module.cpp.
PyObject *residuals(PyObject *module, PyObject *args);

} // namespace rabbet
