// Putting nodes on a tape and taking segments from it; the key's encoding is here.
//
// key: for each node in order: one record per operand from outside at its first use (tag 255, kind, dtype code,
// number of axes, whether it requires gradients), then the node's record: tag 253, 16 bytes that stand for op,
// static attributes and form, flags (1: requires gradients, 2: is a leaf), and two int32 per operand: the position
// of its node in the segment (or -1 - the number of the outside operand) and the output there. Tag 254 and a
// position: that node became a gradient leaf. Integers are little endian. Sizes are kept apart.
#include "tape.h"
#include "entry.h"

#include "handle.h"
#include "prepared.h"

#include <structmember.h>

#include <cstddef>
#include <unordered_map>
#include <utility>

namespace rabbet {

PyTypeObject *tape_type = nullptr;

namespace {

int64_t epoch = 0;

// The tape of the thread that asked last; thread states have numbers that are never used twice.
uint64_t last_thread = 0;
Tape *last_tape = nullptr;
PyObject *name_of_tape;

PyObject *name_of_dtype, *name_of_code, *name_of_shape;

constexpr size_t most_specs = 8192;
auto &known_specs = *new std::unordered_map<PyObject *, SpecFacts>; // the keys are counted; never freed

bool describe(PyObject *spec, SpecFacts &found) {
    const Ref dtype = Ref::steal(PyObject_GetAttr(spec, name_of_dtype));
    const Ref code = Ref::steal(dtype ? PyObject_GetAttr(dtype.get(), name_of_code) : nullptr);
    const Ref shape = Ref::steal(code ? PyObject_GetAttr(spec, name_of_shape) : nullptr);
    if (!shape)
        return false;
    const long number = PyLong_AsLong(code.get());
    if (number == -1 && PyErr_Occurred())
        return false;
    if (!PyTuple_Check(shape.get()) || PyTuple_GET_SIZE(shape.get()) > 255 || number < 0 || number > 255) {
        PyErr_SetString(PyExc_ValueError, "an outside operand has a Spec that no key can hold");
        return false;
    }
    found = {uint8_t(number), uint8_t(PyTuple_GET_SIZE(shape.get())), {}};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape.get()); i++) {
        found.shape.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(shape.get(), i)));
        if (found.shape.back() == -1 && PyErr_Occurred())
            return false;
    }
    return true;
}

void write(std::string &key, int32_t number) {
    const auto bits = uint32_t(number);
    const char bytes[] = {char(bits), char(bits >> 8), char(bits >> 16), char(bits >> 24)};
    key.append(bytes, sizeof bytes);
}

// The number of an outside operand in this segment, or -1.
int32_t known_leaf(const Tape *tape, const Node *node, int32_t index) {
    const Output &output = node->outputs[index];
    if (output.epoch == tape->epoch)
        return output.leaf_number;
    const auto &leaves = tape->recorded->leaves;
    // Another tape may have numbered it since.
    for (size_t i = 0; output.readers > 0 && i < leaves.size(); i++)
        if (leaves[i].node == node && leaves[i].index == index)
            return int32_t(i);
    return -1;
}

// Gives an outside operand its number at its first use; -1 and an error.
int32_t number_leaf(Tape *tape, Node *node, int32_t index) {
    int32_t number = known_leaf(tape, node, index);
    if (number >= 0)
        return number;
    Recorded &recorded = *tape->recorded;
    const SpecFacts *spec = facts_of_spec(PyTuple_GET_ITEM(node->specs, index));
    if (!spec)
        return -1;
    recorded.sizes.insert(recorded.sizes.end(), spec->shape.begin(), spec->shape.end());
    number = int32_t(recorded.leaves.size());
    Output &output = node->outputs[index];
    output.epoch = tape->epoch;
    output.leaf_number = number;
    output.readers++;
    Py_INCREF(py(node));
    recorded.leaves.push_back({node, index});
    const int kind = node->number ? 1 : node->offset ? 2 : 0;
    const char record[] = {char(255), char(kind), char(spec->dtype), char(spec->rank), char(node->requires_grad)};
    recorded.key.append(record, sizeof record);
    return number;
}

// Takes back the outside operands numbered since there were `leaves` of them.
void forget_leaves(Recorded &recorded, size_t leaves) {
    while (recorded.leaves.size() > leaves) {
        const Edge leaf = recorded.leaves.back();
        recorded.leaves.pop_back();
        leaf.node->outputs[leaf.index].epoch = 0;
        leaf.node->outputs[leaf.index].readers--;
        Py_DECREF(leaf.node);
    }
}

bool write_record(Tape *tape, const Node *node) {
    int32_t few[8];
    std::vector<int32_t> many;
    int32_t *references = few;
    if (node->n_edges > 4) {
        many.resize(2 * size_t(node->n_edges));
        references = many.data();
    }
    for (int32_t i = 0; i < node->n_edges; i++) {
        const Edge &edge = node->edges[i];
        int32_t source = edge.node->position;
        if (!waits_on(edge.node, tape)) {
            const int32_t leaf = number_leaf(tape, edge.node, edge.index);
            if (leaf < 0)
                return false;
            source = -1 - leaf;
        }
        references[2 * i] = source;
        references[2 * i + 1] = edge.index;
    }
    std::string &key = tape->recorded->key;
    key.push_back(char(253));
    key.append(PyBytes_AS_STRING(node->prepared->code), code_bytes);
    key.push_back(char(node->requires_grad + 2 * node->is_leaf));
    for (int32_t i = 0; i < 2 * node->n_edges; i++)
        write(key, references[i]);
    return true;
}

PyObject *reflag(PyObject *self, PyObject *argument) {
    if (!is_node(argument)) {
        PyErr_SetString(PyExc_TypeError, "reflag: needs a Node");
        return nullptr;
    }
    auto *tape = reinterpret_cast<Tape *>(self);
    const auto *node = reinterpret_cast<Node *>(argument);
    if (waits_on(node, tape)) {
        tape->recorded->key.push_back(char(254));
        write(tape->recorded->key, node->position);
    }
    Py_RETURN_NONE;
}

PyObject *log_assignment_of(PyObject *self, PyObject *handle) {
    if (!is_handle(handle)) {
        PyErr_SetString(PyExc_TypeError, "log_assignment: needs a Handle");
        return nullptr;
    }
    return log_assignment(reinterpret_cast<Tape *>(self), handle) ? Py_NewRef(Py_None) : nullptr;
}

Ref make_lock() {
    const Ref threading = Ref::steal(PyImport_ImportModule("threading"));
    return Ref::steal(threading ? PyObject_CallMethod(threading.get(), "RLock", nullptr) : nullptr);
}

PyObject *create(PyTypeObject *type, PyObject *, PyObject *) {
    Ref lock = make_lock();
    if (!lock)
        return nullptr;
    auto *tape = reinterpret_cast<Tape *>(type->tp_alloc(type, 0));
    if (!tape)
        return nullptr;
    tape->recorded = new Recorded;
    tape->lock = lock.release();
    tape->epoch = ++epoch;
    tape->limit = 2000;
    tape->byte_limit = int64_t(4) << 30; /* of a whole training step: most of them never lie in memory */
    tape->grad_enabled = true;
    return py(tape);
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    auto *tape = reinterpret_cast<Tape *>(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(tape->capture);
    Py_VISIT(tape->interpreter);
    Py_VISIT(tape->narrow);
    Py_VISIT(tape->runner);
    for (Node *node : tape->recorded->nodes)
        Py_VISIT(py(node));
    for (const Edge &leaf : tape->recorded->leaves)
        Py_VISIT(py(leaf.node));
    for (const Assignment &assignment : tape->recorded->assignments) {
        Py_VISIT(assignment.handle);
        Py_VISIT(py(assignment.node));
    }
    return 0;
}

int clear(PyObject *self) {
    auto *tape = reinterpret_cast<Tape *>(self);
    Py_CLEAR(tape->capture);
    Py_CLEAR(tape->interpreter);
    Py_CLEAR(tape->narrow);
    Py_CLEAR(tape->runner);
    tape->recorded->release();
    return 0;
}

void dealloc(PyObject *self) {
    auto *tape = reinterpret_cast<Tape *>(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (last_tape == tape)
        last_tape = nullptr;
    if (tape->weakrefs)
        PyObject_ClearWeakRefs(self);
    clear(self);
    Py_XDECREF(tape->lock);
    Py_XDECREF(tape->first_code);
    delete tape->recorded;
    delete tape->spare;
    type->tp_free(self);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"take", method<take>(), METH_NOARGS, "The segment recorded so far; the tape starts a new one."},
    {"reflag", method<reflag>(), METH_O, "A pending node became a gradient leaf: that is part of the structure."},
    {"log_assignment", method<log_assignment_of>(), METH_O,
     "Remember what a handle stands for, so that a failed segment can give it back."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Tape, weakrefs), READONLY, nullptr},
    {"lock", T_OBJECT, offsetof(Tape, lock), READONLY, "Held by the thread that computes a segment of this tape."},
    {"epoch", T_LONGLONG, offsetof(Tape, epoch), READONLY, "Number of the segment being recorded."},
    {"limit", T_LONGLONG, offsetof(Tape, limit), 0, "Nodes after which a segment ends where it began."},
    {"byte_limit", T_LONGLONG, offsetof(Tape, byte_limit), 0, "The same for the bytes of all outputs."},
    {"pending_bytes", T_LONGLONG, offsetof(Tape, pending_bytes), READONLY, "Bytes of all outputs so far."},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("The pending nodes of one thread.")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, tape_fields},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Tape", sizeof(Tape), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                    slots};

// A thread that ends leaves its tape to the pending nodes, which hold it as it holds them.
constexpr const char *hold_name = "rabbet.tape";

void let_go_of_tape(PyObject *hold) {
    auto *tape = static_cast<Tape *>(PyCapsule_GetPointer(hold, hold_name));
    for (Node *node : tape->recorded->nodes)
        track(node);
    Py_DECREF(tape);
}

Tape *find_tape(PyThreadState *thread) {
    PyObject *store = PyThreadState_GetDict(); // dies with the thread, and the tape with it
    if (!store) {
        PyErr_SetString(PyExc_RuntimeError, "this thread cannot hold a tape");
        return nullptr;
    }
    PyObject *known = PyDict_GetItemWithError(store, name_of_tape);
    if (!known && PyErr_Occurred())
        return nullptr;
    if (!known) {
        Ref fresh = Ref::steal(PyObject_CallNoArgs(py(tape_type)));
        const Ref hold = Ref::steal(fresh ? PyCapsule_New(fresh.get(), hold_name, let_go_of_tape) : nullptr);
        if (!hold)
            return nullptr;
        fresh.release(); // it is the capsule's
        if (PyDict_SetItem(store, name_of_tape, hold.get()) != 0)
            return nullptr;
        known = hold.get(); // the dictionary keeps it
    }
    last_thread = PyThreadState_GetID(thread);
    last_tape = static_cast<Tape *>(PyCapsule_GetPointer(known, hold_name));
    return last_tape;
}

} // namespace

Tape *current_tape() {
    PyThreadState *thread = PyThreadState_Get();
    if (last_tape && PyThreadState_GetID(thread) == last_thread)
        return last_tape;
    return find_tape(thread);
}

bool append(Tape *tape, Node *node) {
    Recorded &recorded = *tape->recorded;
    const size_t key = recorded.key.size(), sizes = recorded.sizes.size(), leaves = recorded.leaves.size();
    if (recorded.nodes.size() >= INT32_MAX || !write_record(tape, node)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_OverflowError, "too many ops on one tape");
        forget_leaves(recorded, leaves);
        recorded.key.resize(key);
        recorded.sizes.resize(sizes);
        return false;
    }
    const auto &numbers = *node->prepared->numbers;
    recorded.sizes.insert(recorded.sizes.end(), numbers.begin(), numbers.end());
    node->position = int32_t(recorded.nodes.size());
    node->epoch = tape->epoch;
    Py_INCREF(tape);
    node->tape = tape;
    if (recorded.nodes.empty()) {
        put(tape->first_code, node->code);
        tape->first_lasti = node->lasti;
    }
    Py_INCREF(py(node));
    recorded.nodes.push_back(node);
    if (__builtin_add_overflow(tape->pending_bytes, node->prepared->nbytes, &tape->pending_bytes))
        tape->pending_bytes = INT64_MAX;
    return true;
}

const SpecFacts *facts_of_spec(PyObject *spec) {
    const auto known = known_specs.find(spec);
    if (known != known_specs.end())
        return &known->second;
    SpecFacts found;
    if (!describe(spec, found))
        return nullptr;
    if (known_specs.size() >= most_specs)
        clear_specs();
    return &known_specs.emplace(Py_NewRef(spec), std::move(found)).first->second;
}

void clear_specs() {
    auto old = std::move(known_specs);
    known_specs.clear();
    for (const auto &entry : old)
        Py_DECREF(entry.first);
}

Recorded *take_recorded(Tape *tape) {
    Recorded *taken = tape->recorded;
    tape->recorded = tape->spare ? std::exchange(tape->spare, nullptr) : new Recorded;
    tape->epoch = ++epoch;
    tape->pending_bytes = 0;
    return taken;
}

PyObject *take(PyObject *self, PyObject *) {
    auto *tape = reinterpret_cast<Tape *>(self);
    Recorded *taken = take_recorded(tape);
    PyObject *segment = new_segment(taken);
    if (!segment) { // the nodes are lost: nothing can compute them any more
        taken->release();
        delete taken;
    }
    return segment;
}

bool log_assignment(Tape *tape, PyObject *handle) {
    const auto *given = reinterpret_cast<Handle *>(handle);
    if (tape->count() > 0) { // before the first node there is nothing yet that could fail
        PyObject *reference = PyWeakref_NewRef(handle, nullptr);
        if (!reference)
            return false;
        Py_INCREF(py(given->node));
        tape->recorded->assignments.push_back({reference, given->node, given->index});
    }
    if (!tape->capture)
        return true;
    const Ref done = Ref::steal(PyObject_CallMethod(tape->capture, "assigned", "O", handle));
    return bool(done);
}

bool define_tape(PyObject *module) {
    name_of_dtype = PyUnicode_InternFromString("dtype");
    name_of_code = PyUnicode_InternFromString("code");
    name_of_shape = PyUnicode_InternFromString("shape");
    name_of_tape = PyUnicode_InternFromString("rabbet.tape");
    tape_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return name_of_dtype && name_of_code && name_of_shape && name_of_tape && tape_type &&
           PyModule_AddObjectRef(module, "Tape", py(tape_type)) == 0;
}

} // namespace rabbet
