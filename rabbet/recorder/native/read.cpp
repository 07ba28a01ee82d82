#include "read.h"

#include "execute.h"
#include "handle.h"
#include "known.h"
#include "record.h"

#include "../../runtime/native/python/buffer.h"

#include <cstring>

namespace rabbet {

namespace {

// Codes of base/dtypes.py; elements of other dtypes are read through NumPy.
enum DtypeCode { BOOL = 0, INT32 = 3, INT64 = 4, FLOAT32 = 11, FLOAT64 = 12 };

// The Buffer of a handle's value, borrowed from its node; nullptr where there is none or, with an error, its
// computation failed.
PyObject *find_value(PyObject *object) {
    if (!is_handle(object)) {
        PyErr_SetString(PyExc_TypeError, "a value is read from a Handle");
        return nullptr;
    }
    const auto *handle = reinterpret_cast<Handle *>(object);
    if (!stands(handle))
        return nullptr;
    if (handle->node->tape) {
        const Ref tape = Ref::borrow(handle->node->tape);
        if (flush_known(tape.as<Tape>()) < 0)
            return nullptr;
    }
    const Node *node = handle->node; // another one where a replay was waited for
    if (node->tape || node->error || !node->buffers || !has_value(node, handle->index) || node->number || node->offset)
        return nullptr;
    PyObject *buffer = PyList_GET_ITEM(node->buffers, handle->index);
    return Py_IS_TYPE(buffer, runtime->buffer_type) ? buffer : nullptr;
}

template <class T> T load(const char *at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

PyObject *number_at(const char *at, int dtype) {
    switch (dtype) {
    case BOOL:
        return PyBool_FromLong(*at);
    case INT32:
        return PyLong_FromLong(load<int32_t>(at));
    case INT64:
        return PyLong_FromLongLong(load<int64_t>(at));
    case FLOAT32:
        return PyFloat_FromDouble(double(load<float>(at)));
    default:
        return PyFloat_FromDouble(load<double>(at));
    }
}

// The elements from axis `axis` on; moves `at` behind them.
PyObject *list_at(const char *&at, const SpecFacts &facts, size_t axis, int64_t size) {
    if (axis == facts.shape.size()) {
        const char *here = at;
        at += size;
        return number_at(here, facts.dtype);
    }
    Ref list = Ref::steal(PyList_New(Py_ssize_t(facts.shape[axis])));
    for (Py_ssize_t i = 0; list && i < Py_ssize_t(facts.shape[axis]); i++) {
        PyObject *item = list_at(at, facts, axis + 1, size);
        if (!item)
            return nullptr;
        PyList_SET_ITEM(list.get(), i, item);
    }
    return list.release();
}

// Bytes of an element that `number_at` reads; 0 for others.
int64_t readable_bytes(int dtype) {
    return dtype == BOOL ? 1 : dtype == INT32 || dtype == FLOAT32 ? 4 : dtype == INT64 || dtype == FLOAT64 ? 8 : 0;
}

// A jit capture wants to hear of every reading, from Python.
PyObject *read_elements(PyObject *handle, bool only_one) {
    const Tape *tape = current_tape();
    if (!tape)
        return nullptr;
    const Ref buffer = Ref::borrow(tape->capture ? nullptr : find_value(handle)); // making lists may collect garbage
    if (!buffer)
        return PyErr_Occurred() ? nullptr : Py_NewRef(Py_None);
    const auto *given = reinterpret_cast<Handle *>(handle);
    const SpecFacts *known = facts_of_spec(PyTuple_GET_ITEM(given->node->specs, given->index));
    if (!known)
        return nullptr;
    const int64_t size = readable_bytes(known->dtype);
    int64_t needed = size;
    for (const int64_t n : known->shape)
        if (__builtin_mul_overflow(needed, n, &needed))
            return Py_NewRef(Py_None);
    const Buffer *memory = runtime->buffer_of(buffer.get());
    if (size == 0 || known->shape.size() > 8 || int64_t(memory->nbytes) < needed)
        return Py_NewRef(Py_None);
    const char *at = reinterpret_cast<const char *>(memory->data);
    if (only_one)
        return needed == size ? number_at(at, known->dtype) : Py_NewRef(Py_None);
    const SpecFacts facts = *known;
    return list_at(at, facts, 0, size);
}

// Where a key of an int for every axis leads, counted in elements; -1: it is another kind of key, or outside.
int64_t place_of(PyObject *key, const std::vector<int64_t> &shape) {
    if (size_t(PyTuple_GET_SIZE(key)) != shape.size())
        return -1;
    int64_t place = 0;
    for (size_t axis = 0; axis < shape.size(); axis++) {
        PyObject *item = PyTuple_GET_ITEM(key, axis);
        if (!PyLong_CheckExact(item))
            return -1;
        int overflow = 0;
        const int64_t size = shape[axis], at = PyLong_AsLongLongAndOverflow(item, &overflow);
        if (overflow || at < -size || at >= size)
            return -1;
        place = place * size + (at < 0 ? at + size : at);
    }
    return place;
}

// A value in memory that no gradient, no capture and no runner wants to know the way from.
bool is_at_hand(const Node *node, int32_t index, const Tape *tape) {
    return !tape->capture && !tape->interpreter && !tape->runner && !node->requires_grad && !node->tape &&
           !node->error && node->buffers && has_value(node, index) && !node->number && !node->offset &&
           Py_IS_TYPE(PyList_GET_ITEM(node->buffers, index), runtime->buffer_type);
}

} // namespace

PyObject *element_at_hand(PyObject *, PyObject *const *args, Py_ssize_t n) {
    if (n != 4 || !is_handle(args[0]) || !PyTuple_CheckExact(args[1]) || !PyLong_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "element: takes a Handle, a tuple, a Spec and a number of bytes");
        return nullptr;
    }
    const auto *handle = reinterpret_cast<Handle *>(args[0]);
    const Tape *tape = current_tape();
    if (!tape || !stands(handle))
        return nullptr;
    if (!is_at_hand(handle->node, handle->index, tape))
        return Py_NewRef(Py_None);
    const Ref buffer = Ref::borrow(PyList_GET_ITEM(handle->node->buffers, handle->index));
    const SpecFacts *facts = facts_of_spec(PyTuple_GET_ITEM(handle->node->specs, handle->index));
    if (!facts)
        return nullptr;
    const int64_t place = place_of(args[1], facts->shape), bytes = PyLong_AsLongLong(args[3]);
    const Buffer *memory = runtime->buffer_of(buffer.get());
    if (place < 0 || bytes <= 0 || place >= int64_t(memory->nbytes) / bytes)
        return PyErr_Occurred() ? nullptr : Py_NewRef(Py_None);
    const Ref made = Ref::steal(runtime->new_buffer(bytes));
    if (!made)
        return nullptr;
    std::memcpy(runtime->buffer_of(made.get())->data, memory->data + place * bytes, size_t(bytes));
    const Ref node = Ref::steal(make_leaf_of(args[2], made.get()));
    return node ? new_handle(node.as<Node>(), 0) : nullptr;
}

PyObject *value_if_known(PyObject *, PyObject *handle) {
    PyObject *buffer = find_value(handle);
    return buffer || !PyErr_Occurred() ? or_none(buffer) : nullptr;
}

PyObject *elements_if_known(PyObject *, PyObject *handle) { return read_elements(handle, false); }

PyObject *number_if_known(PyObject *, PyObject *handle) { return read_elements(handle, true); }

} // namespace rabbet
