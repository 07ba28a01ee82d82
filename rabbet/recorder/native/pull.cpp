// Later nodes first, so that a node's gradients are complete when its rule is asked. transform/gradient.py has the same
// loop in Python for what is not recorded on a tape (dry runs, vmap).
#include "pull.h"

#include "handle.h"
#include "prepared.h"
#include "recipe.h"
#include "record.h"
#include "tape.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

namespace rabbet {

namespace {

// One output of a node, as alive as if a handle stood for it: a segment that ends meanwhile computes it.
class Held {
  public:
    Held() = default;
    Held(Node *node, int32_t index) : node_(node), index_(index) {
        Py_INCREF(py(node));
        node->outputs[index].handles++;
    }
    Held(Held &&other) noexcept : node_(std::exchange(other.node_, nullptr)), index_(other.index_) {}
    Held &operator=(Held &&other) noexcept {
        std::swap(node_, other.node_);
        std::swap(index_, other.index_);
        return *this;
    }
    ~Held() {
        if (!node_)
            return;
        node_->outputs[index_].handles--;
        Py_DECREF(py(node_));
    }

    explicit operator bool() const { return node_ != nullptr; }
    Edge edge() const { return {node_, index_}; }
    PyObject *spec() const { return node_ ? PyTuple_GET_ITEM(node_->specs, index_) : nullptr; }
    Held copy() const { return node_ ? Held(node_, index_) : Held(); }

  private:
    Node *node_ = nullptr;
    int32_t index_ = 0;
};

// A node that gradients reach, and what has arrived so far for each of its outputs.
struct Waiting {
    Ref kept;
    std::vector<Held> arrived;

    Node *node() const { return kept.as<Node>(); }
};

// A place where gradients end, and their sum.
struct End {
    Ref kept;
    int32_t index;
    Held sum;
};

class Pull {
  public:
    // `wanted` is nullptr (all leaves), or a tuple of handles where gradients end.
    Pull(Tape *tape, PyObject *wanted) : tape_(tape), site_(user_site()), only_wanted_(wanted != nullptr) {
        for (Py_ssize_t i = 0; wanted && i < PyTuple_GET_SIZE(wanted); i++) {
            const auto *handle = reinterpret_cast<Handle *>(PyTuple_GET_ITEM(wanted, i));
            wanted_[handle->node].push_back(handle->index);
        }
    }

    bool send(const Edge &to, Held gradient);
    bool run();
    void cut();
    PyObject *ends() const; // [(node, index, gradient), ...]

  private:
    bool end(const Edge &to, Held gradient);
    bool sum(Held &known, Held gradient);
    bool visit(Waiting &waiting);
    bool follow(Node *node, const Recipe &recipe, const std::vector<Held> &arrived);
    bool ask(Node *node, const std::vector<Held> &arrived);
    bool take_step(Node *node, const Step &step, const std::vector<Held> &arrived);
    bool find(Node *node, const Ingredient &wanted, const std::vector<Held> &arrived, Edge &found);
    bool touch(const Edge &edge);

    Tape *tape_;
    const Site site_;
    const bool only_wanted_;
    std::unordered_map<const Node *, std::vector<int32_t>> wanted_;
    std::vector<Waiting> waiting_;
    std::unordered_map<const Node *, size_t> places_;
    std::priority_queue<std::pair<int64_t, size_t>> queue_; // (sequence, place)
    std::vector<std::vector<Held>> made_;                   // per step of the recipe at hand
    std::vector<PyObject *> specs_;
    std::vector<End> ends_;
    std::unordered_map<const Node *, std::vector<size_t>> places_of_ends_;
};

// known + gradient, as the user would write it.
bool Pull::sum(Held &known, Held gradient) {
    const Edge left = known.edge(), right = gradient.edge();
    const Ref a = Ref::steal(new_handle(left.node, left.index)), b = Ref::steal(new_handle(right.node, right.index));
    if (!a || !b)
        return false;
    PyObject *operands[] = {a.get(), b.get()};
    const Ref made = Ref::steal(record_call({hooks.add, operands, 2, nullptr, nullptr}));
    if (!made)
        return false;
    if (!is_handle(made.get())) {
        PyErr_SetString(PyExc_TypeError, "configure: the op that sums gradients has one output");
        return false;
    }
    known = Held(made.as<Handle>()->node, made.as<Handle>()->index);
    return true;
}

bool Pull::end(const Edge &to, Held gradient) {
    if (only_wanted_) {
        const auto found = wanted_.find(to.node);
        if (found == wanted_.end() ||
            std::find(found->second.begin(), found->second.end(), to.index) == found->second.end())
            return true;
    } else if (!to.node->is_leaf) {
        return true;
    }
    std::vector<size_t> &places = places_of_ends_[to.node];
    for (size_t place : places)
        if (ends_[place].index == to.index)
            return sum(ends_[place].sum, std::move(gradient));
    places.push_back(ends_.size());
    ends_.push_back({Ref::borrow(to.node), to.index, std::move(gradient)});
    return true;
}

bool Pull::send(const Edge &to, Held gradient) {
    Node *node = to.node;
    if (node->is_leaf || !node->op || (only_wanted_ && wanted_.count(node)))
        return end(to, std::move(gradient));
    const auto [place, is_new] = places_.emplace(node, waiting_.size());
    if (is_new) {
        waiting_.push_back({Ref::borrow(node), std::vector<Held>(size_t(node->n_outputs))});
        queue_.emplace(node->sequence, place->second);
    }
    const size_t at = place->second;
    Held &known = waiting_[at].arrived[size_t(to.index)];
    if (known)
        return sum(known, std::move(gradient)); // records, but reaches no further node
    known = std::move(gradient);
    return true;
}

bool Pull::run() {
    while (!queue_.empty()) {
        const size_t place = queue_.top().second;
        queue_.pop();
        Waiting waiting{Ref::borrow(waiting_[place].node()), std::move(waiting_[place].arrived)};
        if (!visit(waiting))
            return false;
    }
    return true;
}

bool Pull::visit(Waiting &waiting) {
    Node *node = waiting.node();
    if (node->cut) {
        const Ref refused = Ref::steal(PyObject_CallFunctionObjArgs(hooks.rule, py(node), Py_None, nullptr));
        if (refused)
            PyErr_SetString(PyExc_TypeError, "configure: rule() must refuse a node that was cut");
        return false;
    }
    specs_.clear();
    for (const Held &one : waiting.arrived)
        specs_.push_back(one.spec());
    const Ref recipe = Ref::steal(find_recipe(node, specs_));
    if (!recipe)
        return false;
    if (recipe.get() == Py_None)
        return ask(node, waiting.arrived);
    return follow(node, *recipe.as<Recipe>(), waiting.arrived);
}

// Calls the rule itself, in Python.
bool Pull::ask(Node *node, const std::vector<Held> &arrived) {
    const Ref given = Ref::steal(PyTuple_New(Py_ssize_t(arrived.size())));
    for (size_t i = 0; given && i < arrived.size(); i++) {
        PyObject *one = arrived[i] ? new_handle(arrived[i].edge().node, arrived[i].edge().index) : Py_NewRef(Py_None);
        if (!one)
            return false;
        PyTuple_SET_ITEM(given.get(), Py_ssize_t(i), one);
    }
    const Ref found =
        Ref::steal(given ? PyObject_CallFunctionObjArgs(hooks.rule, py(node), given.get(), nullptr) : nullptr);
    if (!found)
        return false;
    if (!PyList_Check(found.get()) || PyList_GET_SIZE(found.get()) != node->n_edges) {
        PyErr_SetString(PyExc_TypeError, "configure: rule() must return a list, one gradient per operand");
        return false;
    }
    for (int32_t i = 0; i < node->n_edges; i++) {
        PyObject *one = PyList_GET_ITEM(found.get(), i);
        if (!is_handle(one) || !node->edges[i].node->requires_grad)
            continue;
        const auto *handle = reinterpret_cast<Handle *>(one);
        if (!stands(handle) || !send(node->edges[i], Held(handle->node, handle->index)))
            return false;
    }
    return true;
}

bool Pull::follow(Node *node, const Recipe &recipe, const std::vector<Held> &arrived) {
    made_.clear();
    for (const Step &step : *recipe.steps)
        if (!take_step(node, step, arrived))
            return false;
    for (int32_t i = 0; i < node->n_edges; i++) {
        const Ingredient &result = (*recipe.results)[size_t(i)];
        if (result.kind == Ingredient::NONE)
            continue;
        Edge found{};
        if (!find(node, result, arrived, found) || !send(node->edges[i], Held(found.node, found.index)))
            return false;
    }
    made_.clear();
    return true;
}

// A borrowed edge; of a number, to a new node that the caller has to give back.
bool Pull::find(Node *node, const Ingredient &wanted, const std::vector<Held> &arrived, Edge &found) {
    switch (wanted.kind) {
    case Ingredient::ARRIVED:
        found = arrived[size_t(wanted.first)].edge();
        break;
    case Ingredient::OUTPUT:
        found = {node, wanted.first};
        break;
    case Ingredient::INPUT:
        found = node->edges[wanted.first];
        break;
    case Ingredient::MADE:
        found = made_[size_t(wanted.first)][size_t(wanted.second)].edge();
        break;
    default:
        found = {number_node(wanted.specs, wanted.number), 0};
        return found.node != nullptr;
    }
    return true;
}

// A jit capture wants to know which values from outside are used.
bool Pull::touch(const Edge &edge) {
    if (!tape_->capture || edge.node->tape)
        return true;
    const Ref handle = Ref::steal(new_handle(edge.node, edge.index));
    const Ref done = Ref::steal(handle ? PyObject_CallMethod(tape_->capture, "touched", "O", handle.get()) : nullptr);
    return bool(done);
}

bool Pull::take_step(Node *node, const Step &step, const std::vector<Held> &arrived) {
    if (!end_if_full(tape_, site_))
        return false;
    const Ref kept = Ref::steal(new_node());
    Node *made = kept.as<Node>();
    if (!made || !resize_outputs(made, PyTuple_GET_SIZE(step.prepared->specs)) ||
        !reserve_edges(made, Py_ssize_t(step.operands.size())))
        return false;
    for (const Ingredient &operand : step.operands) {
        Edge &edge = made->edges[made->n_edges];
        if (!find(node, operand, arrived, edge))
            return false;
        if (operand.kind != Ingredient::NUMBER)
            Py_INCREF(py(edge.node));
        made->n_edges++;
        if (operand.kind != Ingredient::NUMBER && !touch(edge))
            return false;
    }
    if (!put_on_tape(tape_, made, {step.op, nullptr, 0, step.attrs, step.form}, step.prepared, site_))
        return false;
    std::vector<Held> outputs;
    for (int32_t i = 0; i < made->n_outputs; i++)
        outputs.emplace_back(made, i);
    made_.push_back(std::move(outputs));
    return !hooks.eager || tape_->flushing || flush(tape_);
}

void Pull::cut() {
    for (const Waiting &waiting : waiting_) {
        Node *node = waiting.node();
        node->cut = true;
        count_retained(node);
        if (!node->tape)
            drop_edges(node);
    }
}

PyObject *Pull::ends() const {
    Ref list = Ref::steal(PyList_New(Py_ssize_t(ends_.size())));
    for (size_t i = 0; list && i < ends_.size(); i++) {
        const Edge sum = ends_[i].sum.edge();
        const Ref gradient = Ref::steal(new_handle(sum.node, sum.index));
        PyObject *item =
            gradient ? Py_BuildValue("(OiO)", ends_[i].kept.get(), int(ends_[i].index), gradient.get()) : nullptr;
        if (!item)
            return nullptr;
        PyList_SET_ITEM(list.get(), Py_ssize_t(i), item);
    }
    return list.release();
}

bool are_handles(PyObject *tuple) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (!is_handle(item)) {
            PyErr_SetString(PyExc_TypeError, "pull: needs Handles");
            return false;
        }
        if (!stands(reinterpret_cast<Handle *>(item)))
            return false;
    }
    return true;
}

// The tape's `grad_enabled`, for a while.
class GradMode {
  public:
    GradMode(Tape *tape, bool enabled) : tape_(tape), before_(tape->grad_enabled) { tape->grad_enabled = enabled; }
    ~GradMode() { tape_->grad_enabled = before_; }
    GradMode(const GradMode &) = delete;
    GradMode &operator=(const GradMode &) = delete;

  private:
    Tape *tape_;
    bool before_;
};

} // namespace

PyObject *pull(PyObject *, PyObject *args) {
    PyObject *roots, *gradients, *wanted;
    int create_graph, retain_graph;
    if (!PyArg_ParseTuple(args, "O!O!Opp:pull", &PyTuple_Type, &roots, &PyTuple_Type, &gradients, &wanted,
                          &create_graph, &retain_graph))
        return nullptr;
    if (PyTuple_GET_SIZE(roots) != PyTuple_GET_SIZE(gradients) || (wanted != Py_None && !PyTuple_Check(wanted))) {
        PyErr_SetString(PyExc_TypeError, "pull: a gradient for each root, and a tuple or None of what is wanted");
        return nullptr;
    }
    if (!are_handles(roots) || !are_handles(gradients) || (wanted != Py_None && !are_handles(wanted)))
        return nullptr;
    const Ref kept = Ref::borrow(current_tape());
    if (!kept)
        return nullptr;
    const GradMode mode(kept.as<Tape>(), create_graph != 0);
    Pull pull(kept.as<Tape>(), wanted == Py_None ? nullptr : wanted);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(roots); i++) {
        const auto *root = reinterpret_cast<Handle *>(PyTuple_GET_ITEM(roots, i));
        const auto *gradient = reinterpret_cast<Handle *>(PyTuple_GET_ITEM(gradients, i));
        if (!pull.send({root->node, root->index}, Held(gradient->node, gradient->index)))
            return nullptr;
    }
    if (!pull.run())
        return nullptr;
    if (!retain_graph)
        pull.cut();
    return pull.ends();
}

} // namespace rabbet
