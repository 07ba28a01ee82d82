// Segments whose program is known: looked up by key, sizes and what is alive, and run without the layers above.
#pragma once

#include "execute.h"

namespace rabbet {

// From Python; see module.cpp.
PyObject *remember(PyObject *module, PyObject *args);
PyObject *last_run(PyObject *module, PyObject *);
PyObject *note_run(PyObject *module, PyObject *args);
PyObject *runs(PyObject *module, PyObject *);
PyObject *flush_if_known(PyObject *module, PyObject *tape);

// What was remembered under other rules is worth nothing.
void clear_known();

// (position, output index) of every output that a handle stands for, in order.
void find_live(const Recorded &recorded, std::vector<Place> &live);

} // namespace rabbet
