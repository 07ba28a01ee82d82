// A block of memory that Python objects share: ours (cached, aligned) or somebody else's (kept alive).
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace rabbet {

struct Buffer {
    uint8_t *data = nullptr;
    size_t nbytes = 0;
    PyObject *owner = nullptr; // of foreign memory; nullptr: the memory is ours
    int64_t exports = 0;       // live views through the buffer protocol; changed under the GIL only
    bool foreign = false;
    bool readonly = false;

    explicit Buffer(int64_t nbytes);
    Buffer(PyObject *owner, uint8_t *data, size_t nbytes, bool readonly);
    ~Buffer();
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
};

void define_buffer(nanobind::module_ &module);

} // namespace rabbet
