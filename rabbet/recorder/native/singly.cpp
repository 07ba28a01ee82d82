#include "singly.h"
#include "entry.h"

#include "../../runtime/native/python/buffer.h"
#include "execute.h"
#include "prepared.h"
#include "record.h"
#include "tape.h"

#include <structmember.h>

#include <cstddef>
#include <cstring>
#include <memory>

namespace rabbet {

namespace {

// One op of a segment. Operands and results are numbered places; its own are `first` and following of `Plan::places`:
// operands, then results, then those that nobody needs afterwards.
struct SingleStep {
    std::shared_ptr<Single> single;
    int32_t position;
    size_t first;
    int32_t operands, results, dead;
};

struct Plan {
    std::vector<SingleStep> steps;
    std::vector<int32_t> places, outputs;
    size_t inputs = 0, count = 0; // of all places
};

struct Steps {
    PyObject_HEAD
    PyObject *input_specs; // tuple
    Plan *plan;
    int failed;
};

PyTypeObject *steps_type = nullptr;

constexpr size_t most_singles = 16384;
auto &table = *new std::vector<std::shared_ptr<Single>>; // never freed: it outlives the interpreter

void clear_table() {
    for (const std::shared_ptr<Single> &single : table)
        single->forgotten = true;
    auto old = std::move(table);
    table.clear();
}

Steps *as_steps(PyObject *object) { return reinterpret_cast<Steps *>(object); }

class Planner {
  public:
    Planner(const Recorded &recorded, PyObject *find, Plan &plan) : recorded_(recorded), find_(find), plan_(plan) {
        first_.reserve(recorded.nodes.size() + 1);
        first_.push_back(0);
        for (const Node *node : recorded.nodes)
            first_.push_back(first_.back() + size_t(node->n_outputs));
        wanted_.resize(first_.back());
        place_.assign(first_.back(), -1);
    }

    bool make(const std::vector<Place> &keep);

  private:
    // The number of an output among all of the segment, or -1 for an outside operand.
    int64_t number_of(const Edge &edge) const {
        const auto position = size_t(edge.node->position);
        const bool inside = edge.node->position >= 0 && position < recorded_.nodes.size() &&
                            recorded_.nodes[position] == edge.node;
        return inside ? int64_t(first_[position]) + edge.index : -1;
    }
    int32_t leaf_of(const Edge &edge) const;
    bool add(size_t position);
    std::shared_ptr<Single> single_of(Node *node, size_t position);
    std::shared_ptr<Single> ask(Node *node, size_t position);
    void note_deaths(size_t kept);

    const Recorded &recorded_;
    PyObject *find_;
    Plan &plan_;
    std::vector<size_t> first_;
    std::vector<bool> wanted_;
    std::vector<int32_t> place_;
    std::vector<Edge> distinct_; // operands of the op at hand, each once
    std::string key_;
};

int32_t Planner::leaf_of(const Edge &edge) const {
    const auto &leaves = recorded_.leaves;
    const int32_t number = edge.node->outputs[edge.index].leaf_number;
    const auto is = [&](size_t i) { return leaves[i].node == edge.node && leaves[i].index == edge.index; };
    if (number >= 0 && size_t(number) < leaves.size() && is(size_t(number)))
        return number;
    for (size_t i = 0; i < leaves.size(); i++) // another tape has numbered it since
        if (is(i))
            return int32_t(i);
    return -1;
}

bool Planner::make(const std::vector<Place> &keep) {
    plan_.inputs = plan_.count = recorded_.leaves.size();
    for (const auto &[position, index] : keep)
        wanted_[first_[size_t(position)] + size_t(index)] = true;
    for (size_t p = recorded_.nodes.size(); p-- > 0;) {
        bool used = false;
        for (size_t o = first_[p]; o < first_[p + 1]; o++)
            used |= wanted_[o];
        const Node *node = recorded_.nodes[p];
        for (int32_t i = 0; used && i < node->n_edges; i++)
            if (const int64_t number = number_of(node->edges[i]); number >= 0)
                wanted_[size_t(number)] = true;
    }
    for (size_t p = 0; p < recorded_.nodes.size(); p++)
        if (!add(p))
            return false;
    for (const auto &[position, index] : keep)
        plan_.outputs.push_back(place_[first_[size_t(position)] + size_t(index)]);
    note_deaths(plan_.inputs);
    return true;
}

bool Planner::add(size_t position) {
    bool used = false;
    for (size_t o = first_[position]; o < first_[position + 1]; o++)
        used |= wanted_[o];
    if (!used)
        return true;
    Node *node = recorded_.nodes[position];
    const std::shared_ptr<Single> single = single_of(node, position);
    if (!single)
        return false;
    SingleStep step{single, int32_t(position), plan_.places.size(), int32_t(distinct_.size()), 0, 0};
    for (const Edge &edge : distinct_) {
        const int64_t number = number_of(edge);
        const int32_t place = number >= 0 ? place_[size_t(number)] : leaf_of(edge);
        if (place < 0) {
            PyErr_SetString(PyExc_RuntimeError, "steps: an operand is neither of the segment nor one of its leaves");
            return false;
        }
        plan_.places.push_back(place);
    }
    for (int32_t index : single->keep) {
        place_[first_[position] + size_t(index)] = int32_t(plan_.count);
        plan_.places.push_back(int32_t(plan_.count++));
        step.results++;
    }
    plan_.steps.push_back(step);
    return true;
}

// Finds the program of an op, and leaves its operands in `distinct_`.
std::shared_ptr<Single> Planner::single_of(Node *node, size_t position) {
    distinct_.clear();
    key_.clear();
    for (int32_t i = 0; i < node->n_edges; i++) {
        size_t same = 0;
        while (same < distinct_.size() &&
               (distinct_[same].node != node->edges[i].node || distinct_[same].index != node->edges[i].index))
            same++;
        if (same == distinct_.size())
            distinct_.push_back(node->edges[i]);
        const auto number = uint32_t(same);
        for (int shift = 0; shift < (node->n_edges < 256 ? 8 : 32); shift += 8)
            key_.push_back(char(number >> shift));
    }
    for (size_t o = first_[position]; o < first_[position + 1]; o++)
        key_.push_back(wanted_[o] ? 1 : 0);
    auto &known = *node->prepared->singles;
    for (size_t i = 0; i < known.size();) {
        std::shared_ptr<Single> single = known[i].lock();
        if (!single || single->forgotten)
            known.erase(known.begin() + std::ptrdiff_t(i));
        else if (single->key == key_)
            return single;
        else
            i++;
    }
    return ask(node, position);
}

std::shared_ptr<Single> Planner::ask(Node *node, size_t position) {
    const Ref wanted = Ref::steal(PyList_New(0));
    for (int32_t i = 0; wanted && i < node->n_outputs; i++) {
        const Ref index = Ref::steal(PyLong_FromLong(i));
        if (wanted_[first_[position] + size_t(i)] && (!index || PyList_Append(wanted.get(), index.get()) != 0))
            return nullptr;
    }
    if (!wanted)
        return nullptr;
    const Ref kept = Ref::borrow(node->prepared);
    const Ref answer = Ref::steal(PyObject_CallFunctionObjArgs(find_, py(node), wanted.get(), nullptr));
    PyObject *found, *bound, *keep;
    if (!answer || !PyArg_ParseTuple(answer.get(), "OOO!:find", &found, &bound, &PyTuple_Type, &keep))
        return nullptr;
    auto single = std::make_shared<Single>();
    single->key = key_;
    single->op = Py_NewRef(node->op);
    single->found = Py_NewRef(found);
    if (bound != Py_None) {
        if (!Py_IS_TYPE(bound, runtime->bound_type)) {
            PyErr_SetString(PyExc_TypeError, "steps: a program to run is a Bound");
            return nullptr;
        }
        single->bound = Py_NewRef(bound);
        single->facts = runtime->facts_of(bound);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keep); i++) {
        const long index = PyLong_AsLong(PyTuple_GET_ITEM(keep, i));
        if (PyErr_Occurred())
            return nullptr;
        if (index < 0 || index >= node->n_outputs) {
            PyErr_SetString(PyExc_IndexError, "steps: a program of another op");
            return nullptr;
        }
        single->keep.push_back(int32_t(index));
    }
    const bool fits = !single->bound || (single->facts->input_bytes.size() == distinct_.size() &&
                                         single->facts->output_bytes.size() == single->keep.size());
    if (!fits) {
        PyErr_SetString(PyExc_RuntimeError, "steps: this program is not one of this op");
        return nullptr;
    }
    if (table.size() >= most_singles)
        clear_table();
    table.push_back(single);
    kept.as<Prepared>()->singles->push_back(single);
    return single;
}

// After which step nobody needs a place any more; those that are kept, and the first `kept` ones, stay.
void Planner::note_deaths(size_t kept) {
    std::vector<int32_t> last(plan_.count, -1);
    for (size_t s = 0; s < plan_.steps.size(); s++) {
        const SingleStep &step = plan_.steps[s];
        for (int32_t i = 0; i < step.operands + step.results; i++)
            last[size_t(plan_.places[step.first + size_t(i)])] = int32_t(s);
    }
    for (size_t i = 0; i < kept; i++)
        last[i] = -1;
    for (int32_t place : plan_.outputs)
        last[size_t(place)] = -1;
    std::vector<int32_t> places;
    for (size_t s = 0; s < plan_.steps.size(); s++) {
        SingleStep &step = plan_.steps[s];
        const size_t first = places.size();
        for (int32_t i = 0; i < step.operands + step.results; i++)
            places.push_back(plan_.places[step.first + size_t(i)]);
        for (int32_t i = 0; i < step.operands + step.results; i++) {
            const int32_t place = plan_.places[step.first + size_t(i)];
            if (last[size_t(place)] == int32_t(s)) {
                places.push_back(place);
                step.dead++;
            }
        }
        step.first = first;
    }
    plan_.places = std::move(places);
}

bool read_places(PyObject *tuple, const Recorded &recorded, std::vector<Place> &places) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        int position, index;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(tuple, i), "ii:place", &position, &index))
            return false;
        if (position < 0 || size_t(position) >= recorded.nodes.size() || index < 0 ||
            index >= recorded.nodes[size_t(position)]->n_outputs) {
            PyErr_SetString(PyExc_IndexError, "steps: the segment has no such output");
            return false;
        }
        places.emplace_back(position, index);
    }
    return true;
}

// Steps(segment, keep, find)
PyObject *create(PyTypeObject *type, PyObject *args, PyObject *) {
    PyObject *segment, *keep, *find;
    if (!PyArg_ParseTuple(args, "O!O!O:Steps", segment_type, &segment, &PyTuple_Type, &keep, &find))
        return nullptr;
    const Recorded &recorded = *as_segment(segment)->recorded;
    std::vector<Place> places;
    if (!read_places(keep, recorded, places))
        return nullptr;
    Ref self = Ref::steal(type->tp_alloc(type, 0));
    if (!self)
        return nullptr;
    auto *steps = self.as<Steps>();
    steps->plan = new Plan;
    steps->failed = -1;
    steps->input_specs = PyTuple_New(Py_ssize_t(recorded.leaves.size()));
    for (size_t i = 0; steps->input_specs && i < recorded.leaves.size(); i++)
        PyTuple_SET_ITEM(steps->input_specs, Py_ssize_t(i),
                         Py_NewRef(PyTuple_GET_ITEM(recorded.leaves[i].node->specs, recorded.leaves[i].index)));
    if (!steps->input_specs || !Planner(recorded, find, *steps->plan).make(places))
        return nullptr;
    return self.release();
}

void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    delete as_steps(self)->plan;
    Py_XDECREF(as_steps(self)->input_specs);
    type->tp_free(self);
    Py_DECREF(type);
}

// ---- running -------------------------------------------------------------------------------------

using Memory = std::vector<Ref>;

bool run_bound(const SingleStep &step, const int32_t *places, Memory &memory) {
    void *few[16];
    std::vector<void *> many;
    void **addresses = few;
    const int32_t n = step.operands + step.results;
    if (n > 16) {
        many.resize(size_t(n));
        addresses = many.data();
    }
    const BoundFacts &facts = *step.single->facts;
    for (int32_t i = 0; i < n; i++) {
        Ref &slot = memory[size_t(places[i])];
        const bool is_operand = i < step.operands;
        if (!is_operand)
            slot = Ref::steal(runtime->new_buffer(facts.output_bytes[size_t(i - step.operands)]));
        if (!slot && !is_operand)
            return false;
        const Buffer *buffer = slot ? runtime->buffer_of(slot.get()) : nullptr;
        if (is_operand && (!buffer || int64_t(buffer->nbytes) < facts.input_bytes[size_t(i)])) {
            PyErr_SetString(PyExc_RuntimeError, "steps: an operand has no value, or a smaller one than is needed");
            return false;
        }
        addresses[i] = buffer->data;
    }
    return runtime->run(step.single->bound, addresses, addresses + step.operands);
}

bool run_by_python(const SingleStep &step, const int32_t *places, Memory &memory) {
    const Ref operands = Ref::steal(PyList_New(step.operands));
    for (int32_t i = 0; operands && i < step.operands; i++)
        PyList_SET_ITEM(operands.get(), i, or_none(memory[size_t(places[i])].get()));
    const Ref made =
        Ref::steal(operands ? PyObject_CallMethod(step.single->found, "run", "O", operands.get()) : nullptr);
    const Ref results = Ref::steal(made ? PySequence_List(made.get()) : nullptr);
    if (!results)
        return false;
    if (PyList_GET_SIZE(results.get()) != step.results) {
        PyErr_SetString(PyExc_RuntimeError, "steps: a program gave another number of outputs");
        return false;
    }
    for (int32_t i = 0; i < step.results; i++) {
        PyObject *one = PyList_GET_ITEM(results.get(), i);
        if (!Py_IS_TYPE(one, runtime->buffer_type)) {
            PyErr_SetString(PyExc_TypeError, "steps: a program gave something else than Buffers");
            return false;
        }
        memory[size_t(places[step.operands + i])] = Ref::borrow(one);
    }
    return true;
}

// run(inputs): the outputs; where it raises, `failed` is the position of the op.
PyObject *run(PyObject *self, PyObject *inputs) {
    Steps *steps = as_steps(self);
    const Plan &plan = *steps->plan;
    if (!PyList_Check(inputs) || size_t(PyList_GET_SIZE(inputs)) != plan.inputs) {
        PyErr_SetString(PyExc_TypeError, "run: needs a list with a Buffer for each outside operand");
        return nullptr;
    }
    const Ref kept = Ref::borrow(self);
    Memory memory(plan.count);
    for (size_t i = 0; i < plan.inputs; i++) {
        PyObject *one = PyList_GET_ITEM(inputs, Py_ssize_t(i));
        if (Py_IS_TYPE(one, runtime->buffer_type))
            memory[i] = Ref::borrow(one);
    }
    steps->failed = -1;
    for (const SingleStep &step : plan.steps) {
        const int32_t *places = plan.places.data() + step.first;
        if (!(step.single->bound ? run_bound : run_by_python)(step, places, memory)) {
            steps->failed = step.position;
            return nullptr;
        }
        for (int32_t i = 0; i < step.dead; i++)
            memory[size_t(places[step.operands + step.results + i])] = Ref();
    }
    Ref outputs = Ref::steal(PyList_New(Py_ssize_t(plan.outputs.size())));
    for (size_t i = 0; outputs && i < plan.outputs.size(); i++)
        PyList_SET_ITEM(outputs.get(), Py_ssize_t(i), or_none(memory[size_t(plan.outputs[i])].get()));
    return outputs.release();
}

PyObject *tuple_of(const int32_t *numbers, int32_t n) {
    Ref tuple = Ref::steal(PyTuple_New(n));
    for (int32_t i = 0; tuple && i < n; i++) {
        PyObject *number = PyLong_FromLong(numbers[i]);
        if (!number)
            return nullptr;
        PyTuple_SET_ITEM(tuple.get(), i, number);
    }
    return tuple.release();
}

PyObject *all_steps(PyObject *self, PyObject *) {
    const Plan &plan = *as_steps(self)->plan;
    Ref list = Ref::steal(PyList_New(0));
    for (const SingleStep &step : plan.steps) {
        const int32_t *places = plan.places.data() + step.first;
        const Ref operands = Ref::steal(tuple_of(places, step.operands));
        const Ref results = Ref::steal(tuple_of(places + step.operands, step.results));
        const Ref item = Ref::steal(list && operands && results
                                        ? Py_BuildValue("(OOOOi)", step.single->op, step.single->found, operands.get(),
                                                        results.get(), int(step.position))
                                        : nullptr);
        if (!item || PyList_Append(list.get(), item.get()) != 0)
            return nullptr;
    }
    return list.release();
}

PyMethodDef methods[] = {
    {"run", method<run>(), METH_O, "run(inputs): the outputs, given Buffers; where it raises, `failed` says which op did."},
    {"steps", method<all_steps>(), METH_NOARGS, "[(op, what `find` found, places of operands, of results, position), ...]"},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"input_specs", T_OBJECT, offsetof(Steps, input_specs), READONLY, "Specs of the outside operands."},
    {"failed", T_INT, offsetof(Steps, failed), READONLY, "The position of the op that failed in the last run, or -1."},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("A segment's ops one after the other (see singly.h).")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Steps", sizeof(Steps), 0, Py_TPFLAGS_DEFAULT, slots};

// A number or an offset as a Buffer of its own.
PyObject *scalar_buffer(const Node *node) {
    PyObject *number = node->number ? node->number : node->offset, *spec = PyTuple_GET_ITEM(node->specs, 0);
    const SpecFacts *facts = facts_of_spec(spec);
    if (!facts)
        return nullptr;
    alignas(16) uint8_t element[16] = {};
    const int64_t bytes = encoded_bytes(facts->dtype);
    if (bytes == 0 || !encode_number(number, facts->dtype, element))
        return PyObject_CallFunctionObjArgs(hooks.scalar, number, spec, nullptr);
    PyObject *buffer = runtime->new_buffer(bytes);
    if (buffer)
        std::memcpy(runtime->buffer_of(buffer)->data, element, size_t(bytes));
    return buffer;
}

} // namespace

PyObject *forget_singles(PyObject *, PyObject *) {
    clear_table();
    Py_RETURN_NONE;
}

PyObject *leaf_buffers(PyObject *segment, PyObject *) {
    const Recorded &recorded = *as_segment(segment)->recorded;
    Ref list = Ref::steal(PyList_New(Py_ssize_t(recorded.leaves.size())));
    for (size_t i = 0; list && i < recorded.leaves.size(); i++) {
        const Edge &leaf = recorded.leaves[i];
        PyObject *one;
        if (leaf.node->number || leaf.node->offset)
            one = scalar_buffer(leaf.node);
        else if (has_value(leaf.node, leaf.index))
            one = Py_NewRef(PyList_GET_ITEM(leaf.node->buffers, leaf.index));
        else
            one = Py_NewRef(Py_None);
        if (!one)
            return nullptr;
        PyList_SET_ITEM(list.get(), Py_ssize_t(i), one);
    }
    return list.release();
}

bool define_steps(PyObject *module) {
    steps_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return steps_type && PyModule_AddObjectRef(module, "Steps", py(steps_type)) == 0;
}

} // namespace rabbet
