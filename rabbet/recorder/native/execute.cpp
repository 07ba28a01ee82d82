#include "execute.h"

#include "../../runtime/native/python/buffer.h"
#include "prepared.h"
#include "record.h"

#include <cstring>
#include <type_traits>

namespace rabbet {

const RuntimeApi *runtime = nullptr;

namespace {

// Codes of base/dtypes.py; numbers of other dtypes are converted there.
enum DtypeCode { BOOL = 0, INT8 = 1, INT32 = 3, INT64 = 4, UINT8 = 5, UINT64 = 8, FLOAT32 = 11, FLOAT64 = 12 };

// Room for one element of any dtype, aligned for it.
struct alignas(16) Element {
    uint8_t bytes[16];
};

template <class T> bool put_integer(PyObject *number, void *element) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow || (value < 0 && !std::is_signed<T>::value) || value != static_cast<long long>(static_cast<T>(value)))
        return false;
    const T small = static_cast<T>(value);
    std::memcpy(element, &small, sizeof small);
    return true;
}

template <class T> bool put_real(PyObject *number, void *element) {
    double value = 0;
    if (PyFloat_CheckExact(number)) {
        value = PyFloat_AS_DOUBLE(number);
    } else {
        value = PyLong_AsDouble(number);
        if (value == -1.0 && PyErr_Occurred()) {
            PyErr_Clear();
            return false;
        }
    }
    const T rounded = static_cast<T>(value);
    std::memcpy(element, &rounded, sizeof rounded);
    return true;
}

// A list or array that does without memory of its own while it is small.
template <class T, size_t few> class Small {
  public:
    explicit Small(size_t n) : many_(n > few ? n : 0), data_(n > few ? many_.data() : few_) {}
    Small(const Small &) = delete;
    Small &operator=(const Small &) = delete;
    T &operator[](size_t i) { return data_[i]; }
    T *data() { return data_; }

  private:
    T few_[few] = {};
    std::vector<T> many_;
    T *data_;
};

// One run of a program: addresses, and what owns the memory.
class Run {
  public:
    Run(const Recorded &recorded, const Launch &launch)
        : recorded_(recorded), launch_(launch), numbers_(recorded.leaves.size()), inputs_(recorded.leaves.size()),
          outputs_(launch.keep.size()), made_(launch.keep.size()), kept_(recorded.leaves.size()) {}
    ~Run() {
        for (size_t i = 0; i < launch_.keep.size(); i++)
            Py_XDECREF(made_[i]);
        for (size_t i = 0; i < recorded_.leaves.size(); i++)
            Py_XDECREF(kept_[i]);
    }
    Run(const Run &) = delete;
    Run &operator=(const Run &) = delete;

    bool run() {
        return find_inputs() && make_outputs() && runtime->run(launch_.bound, inputs_.data(), outputs_.data()) &&
               keep_outputs();
    }

  private:
    bool find_inputs();
    bool find_input(size_t i);
    bool find_scalar(size_t i, PyObject *number);
    bool make_outputs();
    bool may_give(size_t leaf, int64_t bytes) const;
    bool keep_outputs();

    const Recorded &recorded_;
    const Launch &launch_;
    Small<Element, 16> numbers_;
    Small<void *, 32> inputs_, outputs_;
    Small<PyObject *, 32> made_; // buffers of the outputs, counted
    Small<PyObject *, 32> kept_; // buffers of numbers that NumPy made
};

bool Run::find_inputs() {
    if (recorded_.leaves.size() != launch_.facts->input_bytes.size() ||
        launch_.keep.size() != launch_.facts->output_bytes.size()) {
        PyErr_SetString(PyExc_RuntimeError, "execute: this program is not one of this segment");
        return false;
    }
    for (size_t i = 0; i < recorded_.leaves.size(); i++)
        if (!find_input(i))
            return false;
    return true;
}

bool Run::find_input(size_t i) {
    const Edge &leaf = recorded_.leaves[i];
    const Node *node = leaf.node;
    if (node->number || node->offset)
        return find_scalar(i, node->number ? node->number : node->offset);
    PyObject *object = node->buffers && leaf.index < PyList_GET_SIZE(node->buffers)
                           ? PyList_GET_ITEM(node->buffers, leaf.index)
                           : Py_None;
    if (!Py_IS_TYPE(object, runtime->buffer_type)) {
        PyErr_SetString(PyExc_RuntimeError, "execute: an operand has no value");
        return false;
    }
    const Buffer *buffer = runtime->buffer_of(object);
    if (int64_t(buffer->nbytes) < launch_.facts->input_bytes[i]) {
        PyErr_Format(PyExc_RuntimeError, "execute: operand %zu has %zu bytes, %lld are needed", i, buffer->nbytes,
                     static_cast<long long>(launch_.facts->input_bytes[i]));
        return false;
    }
    inputs_[i] = buffer->data;
    return true;
}

bool Run::find_scalar(size_t i, PyObject *number) {
    const Node *node = recorded_.leaves[i].node;
    const SpecFacts *facts = facts_of_spec(PyTuple_GET_ITEM(node->specs, 0));
    if (!facts)
        return false;
    if (encode_number(number, facts->dtype, numbers_[i].bytes)) {
        inputs_[i] = numbers_[i].bytes;
        return true;
    }
    kept_[i] = PyObject_CallFunctionObjArgs(hooks.scalar, number, PyTuple_GET_ITEM(node->specs, 0), nullptr);
    if (kept_[i] && Py_IS_TYPE(kept_[i], runtime->buffer_type)) {
        inputs_[i] = runtime->buffer_of(kept_[i])->data;
        return true;
    }
    if (kept_[i])
        PyErr_SetString(PyExc_TypeError, "configure: scalar() must return a Buffer");
    return false;
}

bool Run::may_give(size_t leaf, int64_t bytes) const {
    const Edge &edge = recorded_.leaves[leaf];
    const Node *node = edge.node;
    const Output &output = node->outputs[edge.index];
    if (output.handles != 0 || output.retained != 0 || output.readers > 1 || !recorded_.reads)
        return false;
    if (node->number || node->offset || !node->buffers || Py_REFCNT(node->buffers) != 1)
        return false;
    return is_givable(PyList_GET_ITEM(node->buffers, edge.index), bytes);
}

bool Run::make_outputs() {
    const BoundFacts &facts = *launch_.facts;
    for (size_t o = 0; o < launch_.keep.size(); o++) {
        const int64_t donor = facts.donors[o], bytes = facts.output_bytes[o];
        if (donor >= 0 && may_give(size_t(donor), bytes)) {
            outputs_[o] = inputs_[size_t(donor)];
            continue;
        }
        made_[o] = runtime->new_buffer(bytes);
        if (!made_[o])
            return false;
        outputs_[o] = runtime->buffer_of(made_[o])->data;
    }
    return true;
}

// Nothing here can fail for lack of anything but memory for a list, and those are made before the run.
bool Run::keep_outputs() {
    for (size_t o = 0; o < launch_.keep.size(); o++) {
        const auto [position, index] = launch_.keep[o];
        PyObject *buffer = std::exchange(made_[o], nullptr);
        if (!buffer) { // it lies in the memory of its donor, which has no use for it any more
            const Edge &edge = recorded_.leaves[size_t(launch_.facts->donors[o])];
            buffer = PyList_GET_ITEM(edge.node->buffers, edge.index);
            PyList_SET_ITEM(edge.node->buffers, edge.index, Py_NewRef(Py_None));
        }
        PyObject *buffers = recorded_.nodes[size_t(position)]->buffers;
        PyObject *old = PyList_GET_ITEM(buffers, index);
        PyList_SET_ITEM(buffers, index, buffer);
        Py_XDECREF(old);
    }
    return true;
}

// Every node that gets a value has a list for it.
bool prepare_lists(const Recorded &recorded, const Launch &launch) {
    for (const auto &[position, index] : launch.keep) {
        if (position < 0 || size_t(position) >= recorded.nodes.size() || index < 0 ||
            index >= recorded.nodes[size_t(position)]->n_outputs) {
            PyErr_SetString(PyExc_IndexError, "execute: the segment has no such output");
            return false;
        }
        Node *node = recorded.nodes[size_t(position)];
        if (node->buffers)
            continue;
        node->buffers = no_buffers(node);
        if (!node->buffers)
            return false;
    }
    return true;
}

} // namespace

bool load_runtime() {
    const Ref module = Ref::steal(PyImport_ImportModule("rabbet.runtime._runtime"));
    runtime = module ? static_cast<const RuntimeApi *>(PyCapsule_Import(api_name, 0)) : nullptr;
    return runtime != nullptr;
}

bool encode_number(PyObject *number, int dtype_code, void *element) {
    if (dtype_code == BOOL) {
        if (!PyBool_Check(number))
            return false;
        *static_cast<uint8_t *>(element) = number == Py_True;
        return true;
    }
    const bool integer = PyLong_CheckExact(number) || PyBool_Check(number);
    if (!integer && !PyFloat_CheckExact(number))
        return false;
    switch (dtype_code) {
    case FLOAT32:
        return put_real<float>(number, element);
    case FLOAT64:
        return put_real<double>(number, element);
    case INT32:
        return integer && put_integer<int32_t>(number, element);
    case INT64:
        return integer && put_integer<int64_t>(number, element);
    case UINT64:
        return integer && put_integer<uint64_t>(number, element);
    default:
        return false;
    }
}

bool fits(PyObject *integer, int dtype_code) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(integer, &overflow);
    if (dtype_code < INT8)
        return true;
    if (dtype_code > UINT64) {
        const bool finite = !overflow || PyLong_AsDouble(integer) != -1.0;
        PyErr_Clear();
        return finite;
    }
    if (overflow || dtype_code == INT64)
        return !overflow;
    if (dtype_code == UINT64)
        return value >= 0;
    const bool is_signed = dtype_code < UINT8;
    const int bits = 8 << (dtype_code - (is_signed ? INT8 : UINT8));
    const long long end = 1LL << (bits - is_signed);
    return value >= (is_signed ? -end : 0) && value < end;
}

int64_t encoded_bytes(int dtype_code) {
    switch (dtype_code) {
    case BOOL:
        return 1;
    case FLOAT32:
    case INT32:
        return 4;
    case FLOAT64:
    case INT64:
    case UINT64:
        return 8;
    default:
        return 0;
    }
}

bool is_givable(PyObject *object, int64_t bytes) {
    if (!Py_IS_TYPE(object, runtime->buffer_type) || Py_REFCNT(object) != 1)
        return false;
    const Buffer *buffer = runtime->buffer_of(object);
    return buffer->exports == 0 && !buffer->foreign && !buffer->readonly && int64_t(buffer->nbytes) == bytes;
}

bool make_launch(PyObject *entry, PyObject *bound, PyObject *places, Launch &launch) {
    if (!Py_IS_TYPE(bound, runtime->bound_type)) {
        PyErr_Format(PyExc_TypeError, "a program to run is a Bound, not a %s", Py_TYPE(bound)->tp_name);
        return false;
    }
    launch = {entry, bound, runtime->facts_of(bound), {}};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(places); i++) {
        int position, index;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(places, i), "ii:place", &position, &index))
            return false;
        launch.keep.emplace_back(position, index);
    }
    return true;
}

bool execute(Recorded &recorded, const Launch &launch) {
    if (!prepare_lists(recorded, launch))
        return false;
    recorded.computed = Run(recorded, launch).run();
    return recorded.computed;
}

} // namespace rabbet
