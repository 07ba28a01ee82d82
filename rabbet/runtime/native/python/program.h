#pragma once

#include <nanobind/nanobind.h>

namespace rabbet {

void define_program(nanobind::module_ &module);

} // namespace rabbet
