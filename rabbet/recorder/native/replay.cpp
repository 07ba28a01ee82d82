// A Replay is built once from what jit has noted, and run at each call: stages one after the other, then, if the
// function ends there, every handle gets its new value. Everything that may fail happens before the last stage writes
// over memory that handles have given up.
#include "replay.h"
#include "entry.h"

#include "../../runtime/native/python/buffer.h"
#include "handle.h"
#include "record.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace rabbet {

namespace {

// Where a value comes from: see higher/jit.py, which writes these as tuples.
enum SourceKind { MADE = 0, ARGUMENT, HANDLE, GRAD, CONSTANT, OFFSET, NOTHING };

struct Source {
    int kind = NOTHING;
    int first = 0, second = 0; // MADE: stage, output; ARGUMENT, GRAD of an argument: its number
    PyObject *object = nullptr; // HANDLE, GRAD: a Handle or nullptr; CONSTANT: a Buffer; OFFSET: the generator
    PyObject *spec = nullptr;   // OFFSET
    long long relative = 0;     // OFFSET
};

struct Stage {
    PyObject *bound;
    const BoundFacts *facts;
    std::vector<Source> inputs;
    std::vector<bool> givable; // per input
};

struct Target {
    PyObject *handle; // or nullptr: argument `number`
    int number;
};

struct Assigned {
    Target target;
    Source source;
    PyObject *specs; // (Spec,) of the new value
    bool leaf;
};

struct Drawn {
    PyObject *generator, *moved;
};

struct Replay {
    PyObject_HEAD
    PyObject *description; // the tuple it was made from: keeps everything below
    std::vector<Stage> *stages;
    std::vector<Assigned> *assigned, *grads, *results;
    std::vector<Drawn> *draws;
    bool ends;
};

PyTypeObject *replay_type = nullptr;

Replay *as_replay(PyObject *object) { return reinterpret_cast<Replay *>(object); }

bool bad(const char *what) {
    PyErr_Format(PyExc_TypeError, "Replay: %s", what);
    return false;
}

bool read_target(PyObject *object, Target &target) {
    target = {is_handle(object) ? object : nullptr, 0};
    if (target.handle)
        return true;
    target.number = int(PyLong_AsLong(object));
    return !PyErr_Occurred();
}

bool read_source(PyObject *tuple, Source &source) {
    if (tuple == Py_None)
        return true;
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) < 2)
        return bad("a source is a tuple");
    source.kind = int(PyLong_AsLong(PyTuple_GET_ITEM(tuple, 0)));
    Target target{};
    switch (source.kind) {
    case MADE:
        return PyArg_ParseTuple(tuple, "iii", &source.kind, &source.first, &source.second);
    case ARGUMENT:
        return PyArg_ParseTuple(tuple, "ii", &source.kind, &source.first);
    case HANDLE:
    case CONSTANT:
        source.object = PyTuple_GET_ITEM(tuple, 1);
        return source.kind == HANDLE ? is_handle(source.object) || bad("no handle")
                                     : Py_IS_TYPE(source.object, runtime->buffer_type) || bad("no buffer");
    case GRAD:
        if (!read_target(PyTuple_GET_ITEM(tuple, 1), target))
            return false;
        source.object = target.handle;
        source.first = target.number;
        return true;
    case OFFSET:
        return PyArg_ParseTuple(tuple, "iOLO", &source.kind, &source.object, &source.relative, &source.spec);
    default:
        return bad("a source of no known kind");
    }
}

bool read_stage(PyObject *item, Stage &stage) {
    PyObject *inputs, *givable;
    if (!PyArg_ParseTuple(item, "O!O!O!", runtime->bound_type, &stage.bound, &PyTuple_Type, &inputs, &PyTuple_Type,
                          &givable))
        return false;
    stage.facts = runtime->facts_of(stage.bound);
    stage.inputs.resize(size_t(PyTuple_GET_SIZE(inputs)));
    if (stage.inputs.size() != stage.facts->input_bytes.size() || PyTuple_GET_SIZE(givable) != PyTuple_GET_SIZE(inputs))
        return bad("a stage with another number of inputs");
    for (size_t i = 0; i < stage.inputs.size(); i++) {
        if (!read_source(PyTuple_GET_ITEM(inputs, i), stage.inputs[i]))
            return false;
        stage.givable.push_back(PyTuple_GET_ITEM(givable, i) == Py_True);
    }
    return true;
}

// (target or None, source, (spec,) or None, leaf)
bool read_assigned(PyObject *item, Assigned &one) {
    PyObject *target, *source;
    int leaf;
    if (!PyArg_ParseTuple(item, "OOOp", &target, &source, &one.specs, &leaf) || !read_source(source, one.source))
        return false;
    one.leaf = leaf != 0;
    one.target = {nullptr, -1};
    return target == Py_None || read_target(target, one.target);
}

template <class T> bool read_all(PyObject *tuple, std::vector<T> &found, bool read(PyObject *, T &)) {
    found.resize(size_t(PyTuple_GET_SIZE(tuple)));
    for (size_t i = 0; i < found.size(); i++)
        if (!read(PyTuple_GET_ITEM(tuple, i), found[i]))
            return false;
    return true;
}

bool read_drawn(PyObject *item, Drawn &one) { return PyArg_ParseTuple(item, "OO", &one.generator, &one.moved); }

// Replay(stages, assigned, grads, results, draws, ends)
PyObject *create(PyTypeObject *type, PyObject *args, PyObject *) {
    PyObject *parts[5];
    int ends;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!p:Replay", &PyTuple_Type, &parts[0], &PyTuple_Type, &parts[1],
                          &PyTuple_Type, &parts[2], &PyTuple_Type, &parts[3], &PyTuple_Type, &parts[4], &ends))
        return nullptr;
    const Ref kept = Ref::steal(type->tp_alloc(type, 0));
    auto *self = kept.as<Replay>();
    if (!self)
        return nullptr;
    self->description = Py_NewRef(args);
    self->ends = ends != 0;
    self->stages = new std::vector<Stage>;
    self->assigned = new std::vector<Assigned>;
    self->grads = new std::vector<Assigned>;
    self->results = new std::vector<Assigned>;
    self->draws = new std::vector<Drawn>;
    if (!read_all(parts[0], *self->stages, read_stage) || !read_all(parts[1], *self->assigned, read_assigned) ||
        !read_all(parts[2], *self->grads, read_assigned) || !read_all(parts[3], *self->results, read_assigned) ||
        !read_all(parts[4], *self->draws, read_drawn))
        return nullptr;
    return Py_NewRef(kept.get());
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_replay(self)->description);
    return 0;
}

int clear(PyObject *self) {
    Replay *replay = as_replay(self);
    for (auto *list : {replay->assigned, replay->grads, replay->results})
        if (list)
            list->clear();
    if (replay->stages)
        replay->stages->clear();
    if (replay->draws)
        replay->draws->clear();
    Py_CLEAR(replay->description);
    return 0;
}

void dealloc(PyObject *self) {
    Replay *replay = as_replay(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    delete replay->stages;
    delete replay->assigned;
    delete replay->grads;
    delete replay->results;
    delete replay->draws;
    type->tp_free(self);
    Py_DECREF(type);
}

// One replay under way.
class Player {
  public:
    Player(const Replay &replay, PyObject *arguments, PyObject *made)
        : replay_(replay), arguments_(arguments), made_(made) {}

    // A list of the results, None where the function has not ended; nullptr and an error.
    PyObject *play();

  private:
    Ref buffer_of(const Source &source);
    Ref value_of(PyObject *handle);
    Ref offset_buffer(const Source &source);
    PyObject *handle_of(const Target &target) const {
        return target.handle ? target.handle : PyList_GET_ITEM(arguments_, target.number);
    }
    bool run_stage(const Stage &stage, bool last);
    bool find_inputs(const Stage &stage);
    Ref make_outputs(const Stage &stage, bool last);
    Handle *handle_at(const Source &source) const;
    std::pair<PyObject *, Py_ssize_t> home_of(const Source &source);
    bool may_give(const Stage &stage, size_t i, int64_t bytes);
    bool prepare_end();
    bool prepare(const Assigned &one, std::vector<Ref> &nodes);
    PyObject *end();
    Ref final_buffer(const Assigned &one, const Ref &found);

    const Replay &replay_;
    PyObject *arguments_, *made_; // lists
    std::vector<Ref> held_;       // buffers of the inputs of the stage at hand
    std::vector<void *> inputs_, outputs_;
    std::vector<std::pair<size_t, size_t>> given_; // (input, output) in one memory
    std::vector<Ref> new_nodes_, new_grads_, new_results_, old_values_, offsets_;
};

Ref Player::value_of(PyObject *handle) {
    const auto *given = reinterpret_cast<Handle *>(handle);
    if (!stands(given))
        return {};
    const Node *node = given->node;
    if (!node->tape && !node->error && !node->number && !node->offset && has_value(node, given->index))
        return Ref::borrow(PyList_GET_ITEM(node->buffers, given->index));
    return Ref::steal(PyObject_CallOneArg(hooks.value, handle));
}

Ref Player::offset_buffer(const Source &source) {
    const Ref base = Ref::steal(PyObject_GetAttrString(source.object, "offset"));
    const Ref relative = Ref::steal(base ? PyLong_FromLongLong(source.relative) : nullptr);
    const Ref offset = Ref::steal(relative ? PyNumber_Add(base.get(), relative.get()) : nullptr);
    return Ref::steal(offset ? PyObject_CallFunctionObjArgs(hooks.scalar, offset.get(), source.spec, nullptr)
                             : nullptr);
}

Ref Player::buffer_of(const Source &source) {
    switch (source.kind) {
    case MADE:
        return Ref::borrow(PyList_GET_ITEM(PyList_GET_ITEM(made_, source.first), source.second));
    case ARGUMENT:
        return value_of(PyList_GET_ITEM(arguments_, source.first));
    case HANDLE:
        return value_of(source.object);
    case GRAD: {
        PyObject *grad = reinterpret_cast<Handle *>(handle_of({source.object, source.first}))->grad;
        if (grad && is_handle(grad))
            return value_of(grad);
        PyErr_SetString(PyExc_RuntimeError, "Replay: there is no gradient where one was recorded");
        return {};
    }
    case CONSTANT:
        return Ref::borrow(source.object);
    case OFFSET:
        return offset_buffer(source);
    default:
        return Ref::borrow(Py_None);
    }
}

bool Player::find_inputs(const Stage &stage) {
    held_.clear();
    inputs_.clear();
    for (size_t i = 0; i < stage.inputs.size(); i++) {
        held_.push_back(buffer_of(stage.inputs[i]));
        PyObject *object = held_.back().get();
        if (!object)
            return false;
        if (!Py_IS_TYPE(object, runtime->buffer_type))
            return bad("an operand has no buffer");
        const Buffer *buffer = runtime->buffer_of(object);
        if (int64_t(buffer->nbytes) < stage.facts->input_bytes[i])
            return bad("an operand is too small");
        inputs_.push_back(buffer->data);
    }
    return true;
}

// The handle a value comes from: one of the function's own, or an argument.
Handle *Player::handle_at(const Source &source) const {
    PyObject *object = source.kind == ARGUMENT ? PyList_GET_ITEM(arguments_, source.first) : source.object;
    return reinterpret_cast<Handle *>(object);
}

// The input's memory may be written over: one handle, that gets a new value, or one list of ours holds it.
bool Player::may_give(const Stage &stage, size_t i, int64_t bytes) {
    const Source &source = stage.inputs[i];
    for (size_t k = 0; k < inputs_.size(); k++)
        if (k != i && inputs_[k] == inputs_[i])
            return false;
    if (source.kind == HANDLE || source.kind == ARGUMENT) {
        Handle *handle = handle_at(source);
        const Node *node = handle->node;
        const Output &output = node->outputs[handle->index];
        if (output.handles != 1 || output.retained != 0 || output.readers != 0 || Py_REFCNT(node->buffers) != 1)
            return false;
        for (Py_ssize_t a = 0; a < PyList_GET_SIZE(arguments_); a++)
            if (PyList_GET_ITEM(arguments_, a) == py(handle) && !(source.kind == ARGUMENT && source.first == a))
                return false;
    } else if (source.kind != MADE) {
        return false;
    }
    // held by its list and by us
    PyObject *buffer = held_[i].get();
    held_[i] = Ref();
    const bool givable = is_givable(buffer, bytes);
    held_[i] = Ref::borrow(buffer);
    return givable;
}

// The buffers of a stage's outputs, as a list.
Ref Player::make_outputs(const Stage &stage, bool last) {
    const size_t n = stage.facts->output_bytes.size();
    Ref list = Ref::steal(PyList_New(Py_ssize_t(n)));
    outputs_.clear();
    given_.clear();
    for (size_t o = 0; list && o < n; o++) {
        const int64_t donor = stage.facts->donors[o], bytes = stage.facts->output_bytes[o];
        PyObject *buffer;
        if (last && donor >= 0 && stage.givable[size_t(donor)] && may_give(stage, size_t(donor), bytes)) {
            given_.emplace_back(size_t(donor), o);
            buffer = Py_NewRef(held_[size_t(donor)].get());
        } else {
            buffer = runtime->new_buffer(bytes);
        }
        if (!buffer)
            return {};
        PyList_SET_ITEM(list.get(), Py_ssize_t(o), buffer);
        outputs_.push_back(runtime->buffer_of(buffer)->data);
    }
    return list;
}

// Where the old value of a given input is found.
std::pair<PyObject *, Py_ssize_t> Player::home_of(const Source &source) {
    if (source.kind == MADE)
        return {PyList_GET_ITEM(made_, source.first), source.second};
    const Handle *handle = handle_at(source);
    return {handle->node->buffers, handle->index};
}

bool Player::run_stage(const Stage &stage, bool last) {
    if (!find_inputs(stage))
        return false;
    const Ref outputs = make_outputs(stage, last);
    if (!outputs || PyList_Append(made_, outputs.get()) != 0)
        return false;
    for (const auto &given : given_) { // from here on nobody finds the old value
        const auto [list, place] = home_of(stage.inputs[given.first]);
        Py_DECREF(PyList_GET_ITEM(list, place)); // the new list has it, and so have we
        PyList_SET_ITEM(list, place, Py_NewRef(Py_None));
    }
    if (runtime->run(stage.bound, inputs_.data(), outputs_.data())) {
        held_.clear();
        return true;
    }
    for (const auto &given : given_) { // unless nothing came of it
        const auto [list, place] = home_of(stage.inputs[given.first]);
        Py_DECREF(PyList_GET_ITEM(list, place));
        PyList_SET_ITEM(list, place, Py_NewRef(held_[given.first].get()));
    }
    return false;
}

// A new leaf for the value to come; without specs (None) nothing, or the buffer itself for a result.
bool Player::prepare(const Assigned &one, std::vector<Ref> &nodes) {
    if (one.specs == Py_None) {
        nodes.emplace_back();
        return true;
    }
    Ref node = Ref::steal(new_leaf(one.specs));
    if (!node)
        return false;
    Node *made = node.as<Node>();
    made->buffers = PyList_New(1);
    if (!made->buffers)
        return false;
    PyList_SET_ITEM(made->buffers, 0, Py_NewRef(Py_None));
    if (one.leaf) {
        made->is_leaf = made->requires_grad = true;
        made->owner = PyWeakref_NewRef(handle_of(one.target), nullptr);
        if (!made->owner)
            return false;
    }
    nodes.push_back(std::move(node));
    return true;
}

// Everything at the end that may fail: new nodes and handles, and values that are not made by the last stage.
bool Player::prepare_end() {
    for (const auto *list : {replay_.assigned, replay_.grads, replay_.results}) {
        for (const Assigned &one : *list) {
            const bool waits = one.source.kind == MADE || one.source.kind == NOTHING;
            old_values_.push_back(waits ? Ref() : buffer_of(one.source));
            if (!waits && !old_values_.back())
                return false;
        }
    }
    for (const Drawn &one : *replay_.draws) {
        const Ref offset = Ref::steal(PyObject_GetAttrString(one.generator, "offset"));
        offsets_.push_back(Ref::steal(offset ? PyNumber_Add(offset.get(), one.moved) : nullptr));
        if (!offsets_.back())
            return false;
    }
    for (const Assigned &one : *replay_.assigned)
        if (!prepare(one, new_nodes_))
            return false;
    for (const auto &[list, made] : {std::make_pair(replay_.grads, &new_grads_), {replay_.results, &new_results_}})
        for (const Assigned &one : *list) {
            std::vector<Ref> node;
            if (!prepare(one, node))
                return false;
            made->push_back(node[0] ? Ref::steal(new_handle(node[0].as<Node>(), 0)) : Ref());
            if (node[0] && !made->back())
                return false;
        }
    return true;
}

Ref Player::final_buffer(const Assigned &one, const Ref &found) {
    return found ? Ref::borrow(found.get()) : buffer_of(one.source);
}

// Gives every handle its new value. What is let go of is freed at the end, when all is in place.
PyObject *Player::end() {
    size_t value = 0;
    std::vector<Ref> freed;
    const auto fill = [&](const Assigned &one, PyObject *node) {
        freed.push_back(Ref::steal(PyList_GET_ITEM(reinterpret_cast<Node *>(node)->buffers, 0)));
        PyList_SET_ITEM(reinterpret_cast<Node *>(node)->buffers, 0, final_buffer(one, old_values_[value]).release());
    };
    for (size_t i = 0; i < replay_.assigned->size(); i++, value++)
        fill((*replay_.assigned)[i], new_nodes_[i].get());
    for (size_t i = 0; i < replay_.grads->size(); i++, value++)
        if (new_grads_[i])
            fill((*replay_.grads)[i], py(new_grads_[i].as<Handle>()->node));
    Ref results = Ref::steal(PyList_New(Py_ssize_t(replay_.results->size())));
    for (size_t i = 0; results && i < replay_.results->size(); i++, value++) {
        const Assigned &one = (*replay_.results)[i];
        PyObject *result;
        if (new_results_[i]) {
            fill(one, py(new_results_[i].as<Handle>()->node));
            result = new_results_[i].release();
        } else {
            result = final_buffer(one, old_values_[value]).release();
        }
        PyList_SET_ITEM(results.get(), Py_ssize_t(i), result);
    }
    for (size_t i = 0; i < replay_.assigned->size(); i++) {
        auto *handle = reinterpret_cast<Handle *>(handle_of((*replay_.assigned)[i].target));
        freed.push_back(Ref::borrow(handle->node)); // so that nothing is freed before all is in place
        move_handle(handle, new_nodes_[i].as<Node>(), 0);
    }
    for (size_t i = 0; i < replay_.grads->size(); i++) {
        auto *handle = reinterpret_cast<Handle *>(handle_of((*replay_.grads)[i].target));
        freed.push_back(Ref::steal(std::exchange(handle->grad, new_grads_[i].release())));
    }
    for (size_t i = 0; i < replay_.draws->size(); i++)
        if (PyObject_SetAttrString((*replay_.draws)[i].generator, "offset", offsets_[i].get()) != 0)
            return nullptr;
    return results.release();
}

PyObject *Player::play() {
    const auto &stages = *replay_.stages;
    for (size_t s = 0; s < stages.size(); s++) {
        const bool last = replay_.ends && s + 1 == stages.size();
        if (last && !prepare_end())
            return nullptr;
        if (!run_stage(stages[s], last))
            return nullptr;
    }
    if (!replay_.ends)
        return Py_NewRef(Py_None);
    if (stages.empty() && !prepare_end())
        return nullptr;
    return end();
}

// play(arguments, made): `made` is a list to which the buffers of each stage's outputs are added.
PyObject *play(PyObject *self, PyObject *args) {
    PyObject *arguments, *made;
    if (!PyArg_ParseTuple(args, "O!O!:play", &PyList_Type, &arguments, &PyList_Type, &made))
        return nullptr;
    const Ref kept = Ref::borrow(self);
    return Player(*as_replay(self), arguments, made).play();
}

PyMethodDef methods[] = {
    {"play", method<play>(), METH_VARARGS,
     "play(arguments, made): run all stages, adding the list of each one's output buffers to `made`; if the function\n"
     "ends here, give handles and gradients their new values. Results (Handles, or Buffers where no Spec was given),\n"
     "or None where the function goes on."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("Stages of a recorded function, and what becomes of its handles at the end.")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Replay", sizeof(Replay), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                    slots};

} // namespace

PyObject *arguments_key(PyObject *, PyObject *arguments) {
    const Tape *tape = current_tape();
    if (!tape)
        return nullptr;
    if (!PyTuple_Check(arguments)) {
        PyErr_SetString(PyExc_TypeError, "arguments_key: needs a tuple");
        return nullptr;
    }
    if (tape->capture || tape->interpreter || tape->runner)
        Py_RETURN_NONE;
    const auto n = size_t(PyTuple_GET_SIZE(arguments));
    std::vector<uintptr_t> key{reinterpret_cast<uintptr_t>(tape->narrow) | tape->grad_enabled};
    std::vector<PyObject *> seen(n);
    key.reserve(1 + n);
    for (size_t i = 0; i < n; i++) {
        PyObject *argument = seen[i] = PyTuple_GET_ITEM(arguments, Py_ssize_t(i));
        const auto *handle = reinterpret_cast<Handle *>(argument);
        if (!Py_IS_TYPE(argument, hooks.handle) || !handle->node)
            Py_RETURN_NONE;
        const Node *node = handle->node;
        if (node->requires_grad && !node->is_leaf)
            Py_RETURN_NONE;
        // objects lie at even addresses
        key.push_back(reinterpret_cast<uintptr_t>(PyTuple_GET_ITEM(node->specs, handle->index)) | node->requires_grad);
    }
    std::sort(seen.begin(), seen.end());
    if (std::adjacent_find(seen.begin(), seen.end()) != seen.end())
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(reinterpret_cast<const char *>(key.data()), Py_ssize_t(key.size() * sizeof key[0]));
}

bool define_replay(PyObject *module) {
    replay_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return replay_type && PyModule_AddObjectRef(module, "Replay", py(replay_type)) == 0;
}

} // namespace rabbet
