// What binding arguments to an op's parameters gives, beside the operands, depends only on which arguments are tensors
// or numbers, and on the others' values. That is the key here; `learn` is told once what Python found for it.
#include "caller.h"
#include "entry.h"

#include "handle.h"
#include "key.h"
#include "record.h"

#include <algorithm>
#include <string>
#include <unordered_map>

namespace rabbet {

namespace {

constexpr size_t most_kept = 1000;

// What an argument at one place may be.
enum Role : char { OPERAND = 'o', OPTIONAL = '?', LIST = 'l', ATTRIBUTE = 'a' };

struct Kept {
    std::string key;
    Ref attrs, form;
    std::vector<Ref> alive; // what the key's addresses stand for
};

struct Caller {
    PyObject_HEAD
    PyObject *op, *constants;
    std::string *roles;
    std::unordered_multimap<uint64_t, Kept> *table;
};

PyTypeObject *caller_type = nullptr;

Caller *as_caller(PyObject *object) { return reinterpret_cast<Caller *>(object); }

bool is_number(PyObject *object) {
    return PyFloat_CheckExact(object) || PyLong_CheckExact(object) || PyBool_Check(object) ||
           PyComplex_CheckExact(object);
}

// Reads the arguments of one call; `read` is false for those that Python must look at.
class Reader {
  public:
    explicit Reader(const Caller *caller) : caller_(caller) {}

    bool read(PyObject *args, PyObject *kwargs);

    Key key;
    std::vector<PyObject *> operands; // borrowed

  private:
    bool add(Role role, PyObject *value);
    bool add_list(PyObject *list);
    bool add_attribute(PyObject *value) { return is_constant(value, 0) && key.add_value(value); }
    bool is_constant(PyObject *value, int depth) const;

    const Caller *caller_;
    bool has_handle_ = false;
};

// Values that stay as they are, or lists of such, which are read as they are now.
bool Reader::is_constant(PyObject *value, int depth) const {
    if (value == Py_None || PyLong_Check(value) || PyFloat_CheckExact(value) ||
        PyUnicode_CheckExact(value))
        return true;
    if (PyTuple_CheckExact(value) || PyList_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value); i++)
            if (depth > 4 || !is_constant(PySequence_Fast_GET_ITEM(value, i), depth + 1))
                return false;
        return true;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(caller_->constants); i++)
        if (py(Py_TYPE(value)) == PyTuple_GET_ITEM(caller_->constants, i))
            return true;
    return false;
}

bool Reader::add_list(PyObject *list) {
    if (!PyTuple_CheckExact(list) && !PyList_CheckExact(list))
        return false;
    key.add_tag('l');
    key.add(PySequence_Fast_GET_SIZE(list));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list); i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(list, i);
        if (!is_handle(item))
            return false;
        operands.push_back(item);
        has_handle_ = true;
    }
    return true;
}

bool Reader::add(Role role, PyObject *value) {
    if (role == LIST)
        return add_list(value);
    if (role == ATTRIBUTE)
        return add_attribute(value);
    if (value == Py_None) {
        key.add_tag('0');
        return role == OPTIONAL;
    }
    if (is_handle(value))
        has_handle_ = true;
    else if (!is_number(value))
        return false;
    key.add_tag('x');
    operands.push_back(value);
    return true;
}

bool Reader::read(PyObject *args, PyObject *kwargs) {
    operands.reserve(4);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        const Role role = size_t(i) < caller_->roles->size() ? Role((*caller_->roles)[size_t(i)]) : ATTRIBUTE;
        if (!add(role, PyTuple_GET_ITEM(args, i)))
            return false;
    }
    key.add_tag('k');
    Py_ssize_t i = 0;
    PyObject *name, *value;
    while (PyDict_Next(kwargs, &i, &name, &value))
        if (!add_attribute(name) || !add_attribute(value))
            return false;
    return has_handle_;
}

bool check(PyObject *const *args, Py_ssize_t n, Py_ssize_t expected) {
    if (n == expected && PyTuple_CheckExact(args[0]) && PyDict_CheckExact(args[1]))
        return true;
    PyErr_SetString(PyExc_TypeError, "Caller: needs a tuple of arguments and a dict of named ones");
    return false;
}

// call(args, kwargs): what recording gives, or NotImplemented.
PyObject *call(PyObject *object, PyObject *const *args, Py_ssize_t n) {
    const Caller *self = as_caller(object);
    if (!check(args, n, 2))
        return nullptr;
    Reader reader(self);
    if (!reader.read(args[0], args[1])) {
        PyErr_Clear();
        return Py_NewRef(Py_NotImplemented);
    }
    const auto [begin, end] = self->table->equal_range(reader.key.hash());
    for (auto it = begin; it != end; ++it) {
        const Kept &kept = it->second;
        if (kept.key.size() != reader.key.size() ||
            std::memcmp(kept.key.data(), reader.key.data(), kept.key.size()) != 0)
            continue;
        const Ref attrs = Ref::borrow(kept.attrs.get()), form = Ref::borrow(kept.form.get());
        std::vector<Ref> alive; // a list could change meanwhile
        for (PyObject *operand : reader.operands)
            alive.push_back(Ref::borrow(operand));
        return record_call(
            {self->op, reader.operands.data(), Py_ssize_t(reader.operands.size()), attrs.get(), form.get()});
    }
    return Py_NewRef(Py_NotImplemented);
}

// learn(args, kwargs, operands, attrs, form): see the table of methods.
PyObject *learn(PyObject *object, PyObject *const *args, Py_ssize_t n) {
    Caller *self = as_caller(object);
    if (!check(args, n, 5))
        return nullptr;
    if (!PyList_CheckExact(args[2]) || !PyDict_CheckExact(args[3]) || !PyTuple_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError, "learn: operands are a list, attrs a dict, form a tuple");
        return nullptr;
    }
    Reader reader(self);
    if (!reader.read(args[0], args[1])) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    bool same = size_t(PyList_GET_SIZE(args[2])) == reader.operands.size();
    for (size_t i = 0; same && i < reader.operands.size(); i++)
        same = PyList_GET_ITEM(args[2], Py_ssize_t(i)) == reader.operands[i];
    if (!same)
        Py_RETURN_NONE;
    if (self->table->size() >= most_kept) { // a program goes on to others: what is new is more likely to come again
        const auto old = std::move(*self->table);
        self->table->clear();
    }
    Kept kept{std::string(reader.key.data(), reader.key.size()), Ref::borrow(args[3]), Ref::borrow(args[4]), {}};
    for (PyObject *one : reader.key.identities())
        kept.alive.push_back(Ref::borrow(one));
    self->table->emplace(reader.key.hash(), std::move(kept));
    Py_RETURN_NONE;
}

// Caller(op, roles, constants)
PyObject *create(PyTypeObject *type, PyObject *args, PyObject *) {
    PyObject *op, *constants;
    const char *roles;
    if (!PyArg_ParseTuple(args, "OsO!:Caller", &op, &roles, &PyTuple_Type, &constants))
        return nullptr;
    auto *self = reinterpret_cast<Caller *>(type->tp_alloc(type, 0));
    if (!self)
        return nullptr;
    self->op = Py_NewRef(op);
    self->constants = Py_NewRef(constants);
    self->roles = new std::string(roles);
    self->table = new std::unordered_multimap<uint64_t, Kept>;
    return py(self);
}

void dealloc(PyObject *object) {
    Caller *self = as_caller(object);
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->op);
    Py_XDECREF(self->constants);
    delete self->roles;
    delete self->table;
    type->tp_free(object);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"call", method<call>(), METH_FASTCALL,
     "call(args, kwargs): record the op; NotImplemented where nothing was learned for such arguments."},
    {"learn", method<learn>(), METH_FASTCALL,
     "learn(args, kwargs, operands, attrs, form): these arguments were bound so. Kept where that follows from what\n"
     "kind of operands they have and from the attributes' values."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(
                    "Caller(op, roles, constants): an op's user function for arguments of a kind met before.\n"
                    "`roles` has a letter for each parameter: o operand, ? one that may be None, l list of operands,\n"
                    "a attribute; `constants` are types whose objects never change.")},
    {Py_tp_new, slot<create>()},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"rabbet.recorder._recorder.Caller", sizeof(Caller), 0, Py_TPFLAGS_DEFAULT, slots};

} // namespace

bool define_caller(PyObject *module) {
    caller_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return caller_type && PyModule_AddObjectRef(module, "Caller", py(caller_type)) == 0;
}

} // namespace rabbet
