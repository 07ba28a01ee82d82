// What CPython calls, as functions that let no exception out: its frames could not be unwound.
#pragma once

#include <Python.h>

#include <exception>
#include <new>
#include <type_traits>

namespace rabbet {

// Sets the Python error for the exception that is being handled.
inline void raise_handled() {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
}

template <auto function> struct Entry;

template <class Result, class... Args, Result (*function)(Args...)> struct Entry<function> {
    static Result call(Args... args) noexcept {
        try {
            return function(args...);
        } catch (...) {
            raise_handled();
        }
        if constexpr (std::is_pointer_v<Result>)
            return nullptr;
        else
            return -1;
    }
};

// For tables of methods, of whichever signature their flags say.
template <auto function> PyCFunction method() {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(&Entry<function>::call));
}

// For tables of slots.
template <auto function> void *slot() { return reinterpret_cast<void *>(&Entry<function>::call); }

} // namespace rabbet
