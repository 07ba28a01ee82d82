// Replay: the programs of a recorded function and what becomes of its handles, in one call.
#pragma once

#include "execute.h"

namespace rabbet {

// The state of this thread's tape and, for each of a tuple of different plain tensors, its Spec by address (whoever
// keeps this key keeps them alive) and whether it collects gradients, as bytes. None where the arguments are anything
// else, or the tape records for somebody.
PyObject *arguments_key(PyObject *, PyObject *arguments);

bool define_replay(PyObject *module);

} // namespace rabbet
