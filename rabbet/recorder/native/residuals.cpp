// Two walks over the segment's nodes. The first, from the last node to the first, finds each node's recipe by what
// arrives there, as pull.cpp would. The second, the other way, knows which of the arriving gradients reach an end: a
// leaf, or a node outside. Whatever the recipes read to make those is needed.
#include "residuals.h"

#include "prepared.h"
#include "recipe.h"
#include "tape.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace rabbet {

namespace {

// What is known of one node of the segment.
struct Station {
    std::vector<PyObject *> arrived; // per output: the Spec of its gradient (borrowed), or nullptr; empty: nothing came
    std::vector<bool> reaches;       // per output: its gradient has a part in one that reaches an end
    std::vector<bool> read;          // per output: its value is needed
    Ref recipe;
};

class Residuals {
  public:
    explicit Residuals(const std::vector<Node *> &nodes) : nodes_(nodes), stations_(nodes.size()) {
        for (size_t p = 0; p < nodes.size(); p++) {
            positions_.emplace(nodes[p], p);
            stations_[p].read.resize(size_t(nodes[p]->n_outputs));
        }
    }

    bool start(size_t position, size_t index);
    bool descend(bool &known); // known = false: a rule has to be asked itself
    void ascend();
    PyObject *places() const; // [(position, output), ...]

  private:
    // The node as one that gradients go through, or nullptr for an end.
    Station *inside(const Node *node) {
        const auto found = positions_.find(node);
        if (found == positions_.end() || node->is_leaf || !node->op || node->cut)
            return nullptr;
        return &stations_[found->second];
    }
    void arrive(const Node *node, Station &station, size_t index, PyObject *spec) {
        station.arrived.resize(size_t(node->n_outputs));
        if (!station.arrived[index])
            station.arrived[index] = spec;
    }
    void need(const Edge &edge) {
        const auto found = positions_.find(edge.node);
        if (found != positions_.end())
            stations_[found->second].read[size_t(edge.index)] = true;
    }
    void follow(const Node *node, Station &station);

    const std::vector<Node *> &nodes_;
    std::vector<Station> stations_;
    std::unordered_map<const Node *, size_t> positions_;
};

PyObject *spec_at(const Node *node, int32_t index) { return PyTuple_GET_ITEM(node->specs, index); }

// The Spec of a result of a recipe, borrowed.
PyObject *spec_of(const Ingredient &result, const Node *node, const Station &station, const Recipe &recipe) {
    switch (result.kind) {
    case Ingredient::ARRIVED:
        return station.arrived[size_t(result.first)];
    case Ingredient::OUTPUT:
        return spec_at(node, result.first);
    case Ingredient::INPUT:
        return spec_at(node->edges[result.first].node, node->edges[result.first].index);
    default: // no result is a bare number
        return PyTuple_GET_ITEM((*recipe.steps)[size_t(result.first)].prepared->specs, result.second);
    }
}

bool Residuals::start(size_t position, size_t index) {
    if (position >= nodes_.size() || index >= size_t(nodes_[position]->n_outputs)) {
        PyErr_SetString(PyExc_IndexError, "residuals: there is no such output in the segment");
        return false;
    }
    if (Station *station = inside(nodes_[position]))
        arrive(nodes_[position], *station, index, spec_at(nodes_[position], int32_t(index)));
    return true;
}

bool Residuals::descend(bool &known) {
    for (size_t p = nodes_.size(); p-- > 0;) {
        Node *node = nodes_[p];
        Station &station = stations_[p];
        if (station.arrived.empty())
            continue;
        station.recipe = Ref::steal(find_recipe(node, station.arrived));
        if (!station.recipe)
            return false;
        known = station.recipe.get() != Py_None;
        if (!known)
            return true;
        const Recipe &recipe = *station.recipe.as<Recipe>();
        for (int32_t i = 0; i < node->n_edges; i++) {
            const Edge &edge = node->edges[i];
            const Ingredient &result = (*recipe.results)[size_t(i)];
            Station *below = result.kind == Ingredient::NONE ? nullptr : inside(edge.node);
            if (below)
                arrive(edge.node, *below, size_t(edge.index), spec_of(result, node, station, recipe));
        }
    }
    return true;
}

void Residuals::ascend() {
    for (size_t p = 0; p < nodes_.size(); p++)
        if (!stations_[p].arrived.empty())
            follow(nodes_[p], stations_[p]);
}

// Marks what the recipe reads for those of its results that reach an end. Nodes below were followed before.
void Residuals::follow(const Node *node, Station &station) {
    const Recipe &recipe = *station.recipe.as<Recipe>();
    std::vector<const Ingredient *> open;
    std::vector<bool> taken(recipe.steps->size());
    station.reaches.resize(size_t(node->n_outputs));
    for (int32_t i = 0; i < node->n_edges; i++) {
        const Ingredient &result = (*recipe.results)[size_t(i)];
        if (result.kind == Ingredient::NONE)
            continue;
        const Station *below = inside(node->edges[i].node);
        if (!below || below->reaches[size_t(node->edges[i].index)])
            open.push_back(&result);
    }
    while (!open.empty()) {
        const Ingredient &one = *open.back();
        open.pop_back();
        if (one.kind == Ingredient::ARRIVED) {
            station.reaches[size_t(one.first)] = true;
        } else if (one.kind == Ingredient::OUTPUT) {
            station.read[size_t(one.first)] = true;
        } else if (one.kind == Ingredient::INPUT) {
            need(node->edges[one.first]);
        } else if (one.kind == Ingredient::MADE && !taken[size_t(one.first)]) {
            taken[size_t(one.first)] = true;
            for (const Ingredient &operand : (*recipe.steps)[size_t(one.first)].operands)
                open.push_back(&operand);
        }
    }
}

PyObject *Residuals::places() const {
    Ref list = Ref::steal(PyList_New(0));
    for (size_t p = 0; list && p < stations_.size(); p++)
        for (size_t i = 0; i < stations_[p].read.size(); i++) {
            if (!stations_[p].read[i])
                continue;
            const Ref place = Ref::steal(Py_BuildValue("(nn)", Py_ssize_t(p), Py_ssize_t(i)));
            if (!place || PyList_Append(list.get(), place.get()) != 0)
                return nullptr;
        }
    return list.release();
}

} // namespace

PyObject *residuals(PyObject *, PyObject *args) {
    PyObject *segment, *roots;
    if (!PyArg_ParseTuple(args, "O!O!:residuals", segment_type, &segment, &PyList_Type, &roots))
        return nullptr;
    Residuals found(as_segment(segment)->recorded->nodes);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(roots); i++) {
        Py_ssize_t position, index;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(roots, i), "nn:residuals", &position, &index))
            return nullptr;
        if (!found.start(size_t(position), size_t(index)))
            return nullptr;
    }
    bool known = true;
    if (!found.descend(known))
        return nullptr;
    if (!known)
        Py_RETURN_NONE;
    found.ascend();
    return found.places();
}

} // namespace rabbet
