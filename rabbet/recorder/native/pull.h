// Pull: reverse mode over recorded nodes, from seeds to leaves, recording what recipes say.
#pragma once

#include "ref.h"

namespace rabbet {

// pull(seeds, wanted, create_graph, retain_graph), from Python; see module.cpp.
PyObject *pull(PyObject *module, PyObject *args);

} // namespace rabbet
