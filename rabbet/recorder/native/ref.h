// Ref: a counted reference to a Python object, given back at the end of the scope.
#pragma once

#include <Python.h>

#include <utility>

namespace rabbet {

class Ref {
  public:
    Ref() = default;
    Ref(Ref &&other) noexcept : object_(other.release()) {}
    Ref &operator=(Ref &&other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~Ref() { Py_XDECREF(object_); }

    // Takes over a new reference (nullptr: an error is set).
    template <class T> static Ref steal(T *object) {
        Ref ref;
        ref.object_ = reinterpret_cast<PyObject *>(object);
        return ref;
    }
    template <class T> static Ref borrow(T *object) {
        Py_XINCREF(reinterpret_cast<PyObject *>(object));
        return steal(object);
    }

    PyObject *get() const { return object_; }
    template <class T> T *as() const { return reinterpret_cast<T *>(object_); }
    PyObject *release() { return std::exchange(object_, nullptr); }
    explicit operator bool() const { return object_ != nullptr; }

  private:
    PyObject *object_ = nullptr;
};

// Any object's Python face.
template <class T> PyObject *py(T *object) { return reinterpret_cast<PyObject *>(object); }

// A new reference to `object`, or to None for nullptr.
inline PyObject *or_none(PyObject *object) { return Py_NewRef(object ? object : Py_None); }

// Puts a new reference to `value` (None counts as nothing) into `slot`.
template <class T> void put(T *&slot, PyObject *value) {
    T *old = slot;
    slot = value == Py_None ? nullptr : reinterpret_cast<T *>(Py_XNewRef(value));
    Py_XDECREF(reinterpret_cast<PyObject *>(old));
}

// What a weak reference leads to; empty where it is gone.
inline Ref target_of(PyObject *reference) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *target = nullptr;
    return PyWeakref_GetRef(reference, &target) > 0 ? Ref::steal(target) : Ref();
#else
    PyObject *target = PyWeakref_GET_OBJECT(reference);
    return target == Py_None ? Ref() : Ref::borrow(target);
#endif
}

} // namespace rabbet
