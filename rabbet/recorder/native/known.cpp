#include "known.h"

#include "record.h"

#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>

namespace rabbet {

namespace {

constexpr size_t most_known = 4096;

// A program for one structure, its sizes and what of it is alive. Valid as long as its family lives.
struct Known {
    std::string key;
    std::vector<int64_t> sizes;
    std::vector<Place> live;
    Launch launch; // with counted references
    PyObject *family; // a weak reference

    Known() = default;
    Known(const Known &) = delete;
    Known &operator=(const Known &) = delete;
    ~Known() {
        Py_XDECREF(launch.entry);
        Py_XDECREF(launch.bound);
        Py_XDECREF(family);
    }

    bool fits(const Recorded &recorded, const std::vector<Place> &alive) const {
        return key == recorded.key && sizes == recorded.sizes && live == alive;
    }
};

// Never freed: it outlives the interpreter.
auto &table = *new std::unordered_multimap<size_t, std::shared_ptr<Known>>;

// What was run last, for explain(): ops and lines only, as nodes would keep their values alive.
struct Line {
    PyObject *op, *code;
    int lasti;
};

struct Last {
    std::vector<Line> lines;
    PyObject *entry = nullptr;
};

Last last;
int64_t count_of_runs = 0;

size_t hash_of(const Recorded &recorded, const std::vector<Place> &live) {
    size_t hash = std::hash<std::string_view>()(recorded.key);
    for (int64_t size : recorded.sizes)
        hash = hash * 0x9E3779B97F4A7C15u + size_t(size);
    for (const auto &[position, index] : live)
        hash = hash * 0x9E3779B97F4A7C15u + (size_t(position) << 8) + size_t(index);
    return hash;
}

std::shared_ptr<Known> find(const Recorded &recorded, const std::vector<Place> &live) {
    const auto [begin, end] = table.equal_range(hash_of(recorded, live));
    for (auto it = begin; it != end; ++it) {
        if (!it->second->fits(recorded, live))
            continue;
        if (const Ref family = target_of(it->second->family))
            return it->second;
        const std::shared_ptr<Known> stale = it->second;
        table.erase(it);
        break;
    }
    return nullptr;
}

void note(const Recorded &recorded, PyObject *entry) {
    Last old;
    std::swap(old, last);
    last.lines.reserve(recorded.nodes.size());
    for (const Node *node : recorded.nodes)
        last.lines.push_back({Py_XNewRef(node->op), Py_XNewRef(node->code), node->lasti});
    last.entry = Py_NewRef(entry);
    count_of_runs++;
    for (const Line &line : old.lines) {
        Py_XDECREF(line.op);
        Py_XDECREF(line.code);
    }
    Py_XDECREF(old.entry);
}

// Gives back what a computed segment held, and its vectors to the tape.
void recycle(Tape *tape, Recorded *recorded) {
    recorded->end_reading();
    Recorded old;
    std::swap(old, *recorded);
    for (Node *node : old.nodes)
        Py_DECREF(py(node));
    for (const Edge &leaf : old.leaves)
        Py_DECREF(py(leaf.node));
    for (const Assignment &assignment : old.assignments) {
        Py_DECREF(assignment.handle);
        Py_DECREF(py(assignment.node));
    }
    if (tape->spare) {
        delete recorded;
        return;
    }
    old.nodes.clear();
    old.leaves.clear();
    old.assignments.clear();
    old.key.clear();
    old.sizes.clear();
    old.reads = true;
    old.computed = false;
    std::swap(old, *recorded);
    tape->spare = recorded;
}

// The tape's lock while the GIL may be let go of: who comes meanwhile wants the result.
class Locked {
  public:
    Locked(Tape *tape, bool wanted) : tape_(tape), held_(wanted && call("acquire")), failed_(wanted && !held_) {}
    ~Locked() {
        if (!held_)
            return;
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (!call("release"))
            PyErr_WriteUnraisable(tape_->lock);
        PyErr_Restore(type, value, trace);
    }
    Locked(const Locked &) = delete;
    Locked &operator=(const Locked &) = delete;
    bool failed() const { return failed_; }

  private:
    bool call(const char *name) { return bool(Ref::steal(PyObject_CallMethod(tape_->lock, name, nullptr))); }

    Tape *tape_;
    bool held_, failed_;
};

// Hands a failed segment to the layers above, which say what the user sees.
void report_failure(Recorded *recorded, PyObject *entry) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace)
        PyException_SetTraceback(value, trace);
    const Ref segment = Ref::steal(new_segment(recorded));
    if (segment) {
        const Ref done = Ref::steal(PyObject_CallFunctionObjArgs(hooks.failed, segment.get(), entry, value, nullptr));
    } else {
        recorded->release();
        delete recorded;
    }
    if (!PyErr_Occurred())
        PyErr_SetObject(type, value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}

bool run_known(Tape *tape, const Known &known) {
    tape->flushing = true;
    Recorded *recorded = take_recorded(tape);
    const bool done = execute(*recorded, known.launch);
    if (done) {
        settle_recorded(*recorded);
        note(*recorded, known.launch.entry);
    } else {
        report_failure(recorded, known.launch.entry);
    }
    tape->flushing = false;
    if (done)
        recycle(tape, recorded);
    return done;
}

} // namespace

void find_live(const Recorded &recorded, std::vector<Place> &live) {
    live.clear();
    for (size_t position = 0; position < recorded.nodes.size(); position++) {
        const Node *node = recorded.nodes[position];
        for (int32_t i = 0; i < node->n_outputs; i++)
            if (node->outputs[i].handles > 0)
                live.emplace_back(int32_t(position), i);
    }
}

int flush_known(Tape *tape) {
    if (tape->flushing || tape->capture || tape->runner)
        return 0;
    if (tape->count() == 0)
        return 1;
    static std::vector<Place> live; // its memory is kept; nothing below runs Python before it is done with
    find_live(*tape->recorded, live);
    const std::shared_ptr<Known> known = table.empty() ? nullptr : find(*tape->recorded, live);
    if (!known)
        return 0;
    const int64_t epoch = tape->epoch, count = tape->count();
    const Ref kept = Ref::borrow(tape);
    const Locked locked(tape, known->launch.facts->is_long);
    if (locked.failed())
        return -1;
    if (tape->epoch != epoch || tape->count() != count || tape->flushing)
        return 0; // another thread came first
    return run_known(tape, *known) ? 1 : -1;
}

void clear_known() {
    auto old = std::move(table);
    table.clear();
}

PyObject *flush_if_known(PyObject *, PyObject *tape) {
    if (!Py_IS_TYPE(tape, tape_type)) {
        PyErr_SetString(PyExc_TypeError, "flush_known: needs a Tape");
        return nullptr;
    }
    const int known = flush_known(reinterpret_cast<Tape *>(tape));
    return known < 0 ? nullptr : PyBool_FromLong(known);
}

PyObject *remember(PyObject *, PyObject *args) {
    PyObject *segment, *family, *entry, *bound, *keep;
    if (!PyArg_ParseTuple(args, "O!OOOO!:remember", segment_type, &segment, &family, &entry, &bound, &PyTuple_Type,
                          &keep))
        return nullptr;
    const Recorded &recorded = *as_segment(segment)->recorded;
    auto known = std::make_shared<Known>();
    known->family = nullptr;
    known->launch = {};
    Launch launch;
    if (!make_launch(entry, bound, keep, launch))
        return nullptr;
    known->launch = launch;
    Py_INCREF(entry);
    Py_INCREF(bound);
    known->family = PyWeakref_NewRef(family, nullptr);
    if (!known->family)
        return nullptr;
    known->key = recorded.key;
    known->sizes = recorded.sizes;
    find_live(recorded, known->live);
    if (table.size() >= most_known)
        clear_known();
    if (!find(recorded, known->live))
        table.emplace(hash_of(recorded, known->live), known);
    Py_RETURN_NONE;
}

PyObject *note_run(PyObject *, PyObject *args) {
    PyObject *segment, *entry;
    if (!PyArg_ParseTuple(args, "O!O:note_run", segment_type, &segment, &entry))
        return nullptr;
    note(*as_segment(segment)->recorded, entry);
    Py_RETURN_NONE;
}

PyObject *last_run(PyObject *, PyObject *) {
    if (!last.entry)
        Py_RETURN_NONE;
    const Ref lines = Ref::steal(PyList_New(0));
    for (const Line &line : last.lines) {
        const Ref name = Ref::steal(lines ? PyObject_GetAttrString(line.op, "name") : nullptr);
        const Ref item = Ref::steal(!name       ? nullptr
                                    : line.code ? Py_BuildValue("(O(Oi))", name.get(), line.code, line.lasti)
                                                : Py_BuildValue("(OO)", name.get(), Py_None));
        if (!item || PyList_Append(lines.get(), item.get()) != 0)
            return nullptr;
    }
    return lines ? Py_BuildValue("(OO)", lines.get(), last.entry) : nullptr;
}

PyObject *runs(PyObject *, PyObject *) { return PyLong_FromLongLong(count_of_runs); }

} // namespace rabbet
