// From error codes of the native runtime to Python exceptions.
#pragma once

#include "../rabbet.h"

#include <nanobind/nanobind.h>

#include <string>

namespace rabbet {

[[noreturn]] void raise(const rb_error &error);
[[noreturn]] void raise_program_error(const std::string &text);
void define_failures(nanobind::module_ &module);

} // namespace rabbet
