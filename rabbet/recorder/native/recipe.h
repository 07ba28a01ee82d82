// Recipe: what one op's gradient rule records, so that it need not be asked again.
//
// A rule sees nothing but its op, attributes, form, needs, and the Specs of what it is given; so the ops that it
// records follow from a node's Prepared (op, attributes, form, Specs of operands and outputs), which gradients arrive
// with which Specs, and which operands need one. That is a recipe's key: recipes hang on their node's Prepared. Ops
// whose rule is the user's Python have none.
#pragma once

#include "node.h"

#include <memory>
#include <vector>

namespace rabbet {

// One operand of a step, or one result of a recipe.
struct Ingredient {
    // ARRIVED: the gradient of output `first`; OUTPUT and INPUT: that of the node; MADE: output `second` of step `first`;
    // NUMBER: a Python number of the Spec in `specs`, a run-time argument as the user's numbers are; NONE: no gradient.
    enum Kind { ARRIVED, OUTPUT, INPUT, MADE, NUMBER, NONE };
    int kind = NONE, first = 0, second = 0;
    PyObject *number = nullptr, *specs = nullptr; // borrowed from the recipe's description
};

struct Step {
    PyObject *op, *attrs, *form; // borrowed
    Prepared *prepared;
    std::vector<Ingredient> operands;
};

struct Recipe {
    PyObject_HEAD
    PyObject *description; // the tuple it was made from: keeps everything below
    std::vector<Step> *steps;
    std::vector<Ingredient> *results; // per operand of the node
};

// Recipes of one Prepared.
struct Recipes {
    struct Entry {
        std::vector<PyObject *> arrived; // per output: the Spec of its gradient (counted), or nullptr
        std::vector<bool> needs;         // per operand
        PyObject *recipe;                // counted; None: this rule has to be asked each time
    };
    std::vector<Entry> entries;

    Recipes() = default;
    Recipes(const Recipes &) = delete;
    Recipes &operator=(const Recipes &) = delete;
    ~Recipes() { clear(); }
    void clear();
};

// The recipe for a node when `arrived` comes (nullptr: nothing), or None where there cannot be one; learned at its
// first use. A new reference; nullptr and an error.
PyObject *find_recipe(Node *node, const std::vector<PyObject *> &arrived);

extern PyTypeObject *recipe_type;

bool define_recipe(PyObject *module);

} // namespace rabbet
