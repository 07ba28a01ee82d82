#include "recipe.h"
#include "entry.h"

#include "prepared.h"
#include "record.h"

namespace rabbet {

PyTypeObject *recipe_type = nullptr;

namespace {

constexpr size_t most_recipes = 64; // of one Prepared

Recipe *as_recipe(PyObject *object) { return reinterpret_cast<Recipe *>(object); }

bool bad(const char *what) {
    PyErr_Format(PyExc_TypeError, "Recipe: %s", what);
    return false;
}

// (kind, first, second), or (NUMBER, number, (spec,)), or None; steps before `step` may be used.
bool read_ingredient(PyObject *item, const std::vector<Step> &steps, Ingredient &found) {
    if (item == Py_None)
        return true;
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 3)
        return bad("an operand is a tuple of three");
    found.kind = int(PyLong_AsLong(PyTuple_GET_ITEM(item, 0)));
    if (found.kind == Ingredient::NUMBER) {
        found.number = PyTuple_GET_ITEM(item, 1);
        found.specs = PyTuple_GET_ITEM(item, 2);
        return (PyTuple_Check(found.specs) && PyTuple_GET_SIZE(found.specs) == 1) || bad("a number has one Spec");
    }
    if (!PyArg_ParseTuple(item, "iii", &found.kind, &found.first, &found.second))
        return false;
    if (found.kind < 0 || found.kind > Ingredient::MADE || found.first < 0 || found.second < 0)
        return bad("an operand of no known kind");
    if (found.kind == Ingredient::MADE &&
        (size_t(found.first) >= steps.size() ||
         found.second >= PyTuple_GET_SIZE(steps[size_t(found.first)].prepared->specs)))
        return bad("an operand that is not made before");
    return true;
}

bool read_ingredients(PyObject *tuple, const std::vector<Step> &steps, std::vector<Ingredient> &found) {
    found.resize(size_t(PyTuple_GET_SIZE(tuple)));
    for (size_t i = 0; i < found.size(); i++)
        if (!read_ingredient(PyTuple_GET_ITEM(tuple, Py_ssize_t(i)), steps, found[i]))
            return false;
    return true;
}

bool read_step(PyObject *item, std::vector<Step> &steps) {
    Step step{};
    PyObject *prepared, *operands;
    if (!PyArg_ParseTuple(item, "OO!O!O!O!", &step.op, prepared_type, &prepared, &PyDict_Type, &step.attrs,
                          &PyTuple_Type, &step.form, &PyTuple_Type, &operands))
        return false;
    step.prepared = reinterpret_cast<Prepared *>(prepared);
    if (PyTuple_GET_SIZE(operands) != PyTuple_GET_SIZE(step.prepared->dtypes))
        return bad("a step with another number of operands than it was prepared for");
    if (!read_ingredients(operands, steps, step.operands))
        return false;
    for (const Ingredient &operand : step.operands)
        if (operand.kind == Ingredient::NONE)
            return bad("a step without one of its operands");
    steps.push_back(std::move(step));
    return true;
}

// Recipe(steps, results); a step is (op, prepared, attrs, form, operands).
PyObject *create(PyTypeObject *type, PyObject *args, PyObject *) {
    PyObject *steps, *results;
    if (!PyArg_ParseTuple(args, "O!O!:Recipe", &PyTuple_Type, &steps, &PyTuple_Type, &results))
        return nullptr;
    const Ref kept = Ref::steal(type->tp_alloc(type, 0));
    auto *self = kept.as<Recipe>();
    if (!self)
        return nullptr;
    self->description = Py_NewRef(args);
    self->steps = new std::vector<Step>;
    self->results = new std::vector<Ingredient>;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(steps); i++)
        if (!read_step(PyTuple_GET_ITEM(steps, i), *self->steps))
            return nullptr;
    if (!read_ingredients(results, *self->steps, *self->results))
        return nullptr;
    for (const Ingredient &result : *self->results)
        if (result.kind == Ingredient::NUMBER) {
            bad("a result that is a bare number");
            return nullptr;
        }
    return Py_NewRef(kept.get());
}

void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    delete as_recipe(self)->steps;
    delete as_recipe(self)->results;
    Py_XDECREF(as_recipe(self)->description);
    type->tp_free(self);
    Py_DECREF(type);
}

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>("What one op's gradient rule records (see recipe.h).")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Recipe", sizeof(Recipe), 0, Py_TPFLAGS_DEFAULT, slots};

bool fits(const Recipes::Entry &entry, const Node *node, const std::vector<PyObject *> &arrived) {
    if (entry.arrived != arrived || entry.needs.size() != size_t(node->n_edges))
        return false;
    for (int32_t i = 0; i < node->n_edges; i++)
        if (entry.needs[size_t(i)] != node->edges[i].node->requires_grad)
            return false;
    return true;
}

bool are_there(const std::vector<Ingredient> &used, const Node *node, const std::vector<PyObject *> &arrived) {
    for (const Ingredient &one : used)
        if ((one.kind == Ingredient::INPUT && one.first >= node->n_edges) ||
            (one.kind == Ingredient::OUTPUT && one.first >= node->n_outputs) ||
            (one.kind == Ingredient::ARRIVED && (size_t(one.first) >= arrived.size() || !arrived[size_t(one.first)])))
            return false;
    return true;
}

bool is_for(const Recipe &recipe, const Node *node, const std::vector<PyObject *> &arrived) {
    for (const Step &step : *recipe.steps)
        if (!are_there(step.operands, node, arrived))
            return false;
    return recipe.results->size() == size_t(node->n_edges) && are_there(*recipe.results, node, arrived);
}

PyObject *learn(Node *node, const std::vector<PyObject *> &arrived) {
    const Ref specs = Ref::steal(PyTuple_New(Py_ssize_t(arrived.size())));
    for (size_t i = 0; specs && i < arrived.size(); i++)
        PyTuple_SET_ITEM(specs.get(), Py_ssize_t(i), or_none(arrived[i]));
    Ref recipe = Ref::steal(specs ? PyObject_CallFunctionObjArgs(hooks.learn, py(node), specs.get(), nullptr) : nullptr);
    if (!recipe || recipe.get() == Py_None)
        return recipe.release();
    if (!Py_IS_TYPE(recipe.get(), recipe_type)) {
        PyErr_SetString(PyExc_TypeError, "configure: learn() must return a Recipe or None");
        return nullptr;
    }
    if (is_for(*recipe.as<Recipe>(), node, arrived))
        return recipe.release();
    PyErr_SetString(PyExc_IndexError, "configure: learn() returned a Recipe for another node");
    return nullptr;
}

} // namespace

void Recipes::clear() {
    auto old = std::move(entries);
    entries.clear();
    for (const Entry &entry : old) {
        for (PyObject *spec : entry.arrived)
            Py_XDECREF(spec);
        Py_XDECREF(entry.recipe);
    }
}

PyObject *find_recipe(Node *node, const std::vector<PyObject *> &arrived) {
    Prepared *prepared = node->prepared;
    if (!prepared) // made by hand: nothing is known of its rule's key
        return Py_NewRef(Py_None);
    for (const Recipes::Entry &entry : prepared->recipes->entries)
        if (fits(entry, node, arrived))
            return Py_NewRef(entry.recipe);
    const Ref kept = Ref::borrow(prepared);
    Ref recipe = Ref::steal(learn(node, arrived));
    if (!recipe)
        return nullptr;
    if (prepared->recipes->entries.size() >= most_recipes)
        prepared->recipes->clear();
    Recipes::Entry entry{arrived, {}, Py_NewRef(recipe.get())};
    for (PyObject *one : arrived)
        Py_XINCREF(one);
    for (int32_t i = 0; i < node->n_edges; i++)
        entry.needs.push_back(node->edges[i].node->requires_grad);
    prepared->recipes->entries.push_back(std::move(entry));
    return recipe.release();
}

bool define_recipe(PyObject *module) {
    recipe_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return recipe_type && PyModule_AddObjectRef(module, "Recipe", py(recipe_type)) == 0;
}

} // namespace rabbet
