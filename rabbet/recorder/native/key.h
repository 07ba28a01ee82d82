// Key: what was given to an op, as bytes that equal givings share.
#pragma once

#include "ref.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace rabbet {

// The bytes of a key. Objects known by identity are written as addresses; an entry keeps them alive.
class Key {
  public:
    ~Key() {
        if (bytes_ != few_)
            PyMem_Free(bytes_);
    }
    Key() = default;
    Key(const Key &) = delete;
    Key &operator=(const Key &) = delete;

    void add(const void *data, size_t n) {
        if (size_ + n > capacity_)
            grow(size_ + n);
        std::memcpy(bytes_ + size_, data, n);
        size_ += n;
    }
    template <class T> void add(const T &value) { add(&value, sizeof value); }
    void add_tag(char tag) { add(tag); }
    bool add_value(PyObject *value);
    bool add_dict(PyObject *dict);

    uint64_t hash() const {
        uint64_t sum = size_;
        size_t i = 0;
        for (; i + 8 <= size_; i += 8) {
            uint64_t word;
            std::memcpy(&word, bytes_ + i, 8);
            sum = mix(sum ^ word);
        }
        for (; i < size_; i++)
            sum = mix(sum ^ uint8_t(bytes_[i]));
        return sum ^ sum >> 32;
    }

    const char *data() const { return bytes_; }
    size_t size() const { return size_; }
    const std::vector<PyObject *> &identities() const { return identities_; }

  private:
    static uint64_t mix(uint64_t x) {
        x *= 0x9E3779B97F4A7C15u; // 2**64 / golden ratio: neighbouring addresses end far apart
        return x ^ x >> 29;
    }

    void grow(size_t n) {
        capacity_ = 2 * n;
        auto *bytes = static_cast<char *>(PyMem_Malloc(capacity_));
        if (!bytes)
            throw std::bad_alloc();
        std::memcpy(bytes, bytes_, size_);
        if (bytes_ != few_)
            PyMem_Free(bytes_);
        bytes_ = bytes;
    }

    bool add_integer(PyObject *value);
    bool add_text(PyObject *value);
    bool add_items(PyObject *sequence);

    char few_[256];
    char *bytes_ = few_;
    size_t size_ = 0, capacity_ = sizeof few_;
    std::vector<PyObject *> identities_;
};

} // namespace rabbet
