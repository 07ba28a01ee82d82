#include "failure.h"

namespace nb = nanobind;

namespace rabbet {

namespace {

PyObject *program_error, *guard_error, *index_failure;

PyObject *new_error(nb::module_ &module, const char *name, PyObject *base, const char *doc) {
    const std::string full = std::string("rabbet.runtime._runtime.") + name;
    PyObject *type = PyErr_NewExceptionWithDoc(full.c_str(), doc, base, nullptr);
    if (!type)
        throw nb::python_error();
    module.attr(name) = nb::borrow(type); // and one reference stays with us for good
    return type;
}

[[noreturn]] void raise_index_failure(const rb_error &error) {
    nb::object failure = nb::borrow(index_failure)(error.call, error.element, error.value, error.extent);
    failure.attr("call") = error.call;
    failure.attr("element") = error.element;
    failure.attr("value") = error.value;
    failure.attr("extent") = error.extent;
    failure.attr("committed") = error.committed != 0;
    PyErr_SetObject(index_failure, failure.ptr());
    throw nb::python_error();
}

} // namespace

void raise_program_error(const std::string &text) {
    PyErr_SetString(program_error, text.c_str());
    throw nb::python_error();
}

void raise(const rb_error &error) {
    switch (error.code) {
    case RB_INDEX:
        raise_index_failure(error);
    case RB_GUARD:
        PyErr_SetString(guard_error, error.text);
        break;
    case RB_MEMORY:
        PyErr_SetString(PyExc_MemoryError, error.text);
        break;
    default:
        PyErr_SetString(program_error, error.text);
    }
    throw nb::python_error();
}

void define_failures(nb::module_ &module) {
    program_error = new_error(module, "ProgramError", PyExc_RuntimeError,
                              "A plan breaks a rule of its format, or a program was called wrongly.");
    guard_error = new_error(module, "GuardError", PyExc_RuntimeError,
                            "The program was not made for these symbol values; another must be compiled.");
    index_failure = new_error(module, "IndexFailure", PyExc_IndexError,
                              "A kernel met an index out of range.\n\n"
                              "Attributes: call (number in the plan), element, value, extent, committed (True if donated\n"
                              "inputs were already overwritten).");
}

} // namespace rabbet
