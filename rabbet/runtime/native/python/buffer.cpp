#include "buffer.h"

#include "../rabbet.h"

#include <nanobind/stl/string.h>

#include <cstring>
#include <string>

namespace nb = nanobind;

namespace rabbet {

namespace {

constexpr size_t release_gil_from = size_t(1) << 20; // a copy of 1 MiB takes longer than a switch of threads

[[noreturn]] void raise(PyObject *type, const std::string &text) {
    PyErr_SetString(type, text.c_str());
    throw nb::python_error();
}

int get_view(PyObject *self, Py_buffer *view, int flags) noexcept {
    auto *buffer = nb::inst_ptr<Buffer>(self);
    // Read-only to everybody: tensors are values, and this memory may stand behind several.
    if (PyBuffer_FillInfo(view, self, buffer->data, Py_ssize_t(buffer->nbytes), 1, flags) != 0)
        return -1;
    buffer->exports++;
    return 0;
}

void release_view(PyObject *self, Py_buffer *) noexcept { nb::inst_ptr<Buffer>(self)->exports--; }

PyType_Slot slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void *>(get_view)},
    {Py_bf_releasebuffer, reinterpret_cast<void *>(release_view)},
    {0, nullptr},
};

// A view of a bytes-like object, let go of at the end of the scope.
struct Source {
    Py_buffer view{};
    explicit Source(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0)
            throw nb::python_error();
    }
    ~Source() { PyBuffer_Release(&view); }
    Source(const Source &) = delete;
    Source &operator=(const Source &) = delete;
};

void fill_from(Buffer &buffer, nb::handle object) {
    Source source(object);
    const auto bytes = size_t(source.view.len);
    if (buffer.readonly)
        raise(PyExc_BufferError, "fill_from: the buffer is read-only");
    if (bytes != buffer.nbytes)
        raise(PyExc_ValueError, "fill_from: " + std::to_string(bytes) + " bytes into a buffer of " +
                                    std::to_string(buffer.nbytes));
    if (bytes < release_gil_from) {
        std::memmove(buffer.data, source.view.buf, bytes);
        return;
    }
    nb::gil_scoped_release released;
    std::memmove(buffer.data, source.view.buf, bytes);
}

Buffer *wrap(nb::handle owner, uintptr_t address, int64_t nbytes, bool readonly) {
    if (nbytes < 0 || (address == 0 && nbytes > 0))
        raise(PyExc_ValueError, "Buffer.wrap: " + std::to_string(nbytes) + " bytes at address " +
                                    std::to_string(address));
    return new Buffer(owner.ptr(), reinterpret_cast<uint8_t *>(address), size_t(nbytes), readonly);
}

std::string describe(const Buffer &buffer) {
    return "Buffer(nbytes=" + std::to_string(buffer.nbytes) + (buffer.foreign ? ", foreign" : "") +
           (buffer.readonly ? ", read-only)" : ")");
}

} // namespace

Buffer::Buffer(int64_t bytes) : nbytes(size_t(bytes)) {
    if (bytes < 0)
        raise(PyExc_ValueError, "Buffer: a size of " + std::to_string(bytes) + " bytes");
    data = static_cast<uint8_t *>(rb_memory_take(nbytes));
    if (!data)
        raise(PyExc_MemoryError, "no memory for a buffer of " + std::to_string(bytes) + " bytes");
}

Buffer::Buffer(PyObject *new_owner, uint8_t *address, size_t bytes, bool is_readonly)
    : data(address), nbytes(bytes), owner(new_owner), foreign(true), readonly(is_readonly) {
    Py_INCREF(owner);
}

Buffer::~Buffer() {
    if (foreign)
        Py_XDECREF(owner);
    else
        rb_memory_give(data, nbytes);
}

void define_buffer(nb::module_ &module) {
    nb::class_<Buffer>(module, "Buffer", nb::type_slots(slots), nb::is_weak_referenceable(), nb::is_final(),
                       "Memory of `nbytes` bytes, 64-byte aligned, from a bounded cache of freed blocks.\n\n"
                       "Views through the buffer protocol are read-only. Raises MemoryError.\n\n"
                       ">>> Buffer(64).nbytes\n64")
        .def(nb::init<int64_t>(), nb::arg("nbytes"))
        .def_static("wrap", &wrap, nb::arg("owner"), nb::arg("address"), nb::arg("nbytes"), nb::arg("readonly"),
                    "Foreign memory: `owner` is kept alive as long as the buffer, and nothing is copied.")
        .def("fill_from", &fill_from, nb::arg("source"),
             "Copies a contiguous bytes-like object of exactly `nbytes` bytes in.")
        .def_prop_ro("address", [](const Buffer &self) { return reinterpret_cast<uintptr_t>(self.data); },
                     "Where the memory is.")
        .def_ro("nbytes", &Buffer::nbytes, "Its size.")
        .def_ro("exports", &Buffer::exports, "How many views of it are alive.")
        .def_ro("foreign", &Buffer::foreign, "Whether the memory is somebody else's.")
        .def_ro("readonly", &Buffer::readonly, "Whether nobody may write it, programs neither.")
        .def("__repr__", &describe);
}

} // namespace rabbet
