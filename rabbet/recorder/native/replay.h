// Replay: the programs of a recorded function and what becomes of its handles, in one call.
#pragma once

#include "execute.h"

namespace rabbet {

bool define_replay(PyObject *module);

} // namespace rabbet
