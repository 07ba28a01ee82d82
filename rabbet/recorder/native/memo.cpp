#include "memo.h"

#include "handle.h"
#include "key.h"
#include "recipe.h"
#include "record.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace rabbet {

namespace {

struct Entry {
    uint64_t hash;
    std::string key;
    Prepared *prepared;           // counted
    std::vector<PyObject *> kept; // what the key's addresses stand for
};

// Open addressing, a power of two, at most half full.
std::vector<std::unique_ptr<Entry>> table(64);
Py_ssize_t entries = 0;
PyObject *known_specs = nullptr; // Spec -> the equal Spec met first

Entry *look_up(const Key &key, uint64_t hash) {
    const size_t mask = table.size() - 1;
    for (size_t i = hash & mask; table[i]; i = (i + 1) & mask) {
        Entry *entry = table[i].get();
        if (entry->hash == hash && entry->key.size() == key.size() &&
            std::memcmp(entry->key.data(), key.data(), key.size()) == 0)
            return entry;
    }
    return nullptr;
}

void place(std::unique_ptr<Entry> entry) {
    const size_t mask = table.size() - 1;
    size_t i = entry->hash & mask;
    while (table[i])
        i = (i + 1) & mask;
    table[i] = std::move(entry);
}

void insert(const Key &key, uint64_t hash, Prepared *prepared, const std::vector<PyObject *> &kept) {
    if (entries >= memo_limit)
        clear_memo();
    if (size_t(entries + 1) * 2 > table.size()) {
        auto old = std::move(table);
        table = std::vector<std::unique_ptr<Entry>>(2 * old.size());
        for (auto &entry : old)
            if (entry)
                place(std::move(entry));
    }
    auto entry = std::make_unique<Entry>();
    *entry = {hash, std::string(key.data(), key.size()), prepared, kept};
    Py_INCREF(prepared);
    for (PyObject *object : kept)
        Py_INCREF(object);
    place(std::move(entry));
    entries++;
}

PyObject *kind_of(PyObject *operand) {
    if (!is_handle(operand))
        return py(Py_TYPE(operand));
    const auto *handle = reinterpret_cast<Handle *>(operand);
    return PyTuple_GET_ITEM(handle->node->specs, handle->index);
}

// Writes the key; `kinds` (of n) are borrowed Specs and types.
bool write_key(const Call &call, PyObject *const *kinds, Key &key) {
    const bool plain = (!call.attrs || PyDict_GET_SIZE(call.attrs) == 0) &&
                       (!call.form || PyTuple_GET_SIZE(call.form) == 0);
    key.add(call.op);
    key.add(4 * call.n + 2 * (call.narrow != nullptr) + plain);
    key.add(kinds, size_t(call.n) * sizeof *kinds);
    if (call.narrow)
        key.add(call.narrow);
    if (plain)
        return true;
    if (!key.add_value(call.form ? call.form : Py_None))
        return false;
    return call.attrs ? key.add_dict(call.attrs) : (key.add(Py_ssize_t(0)), true);
}

// An equal Spec may be another object (interning forgets): puts those met first into `kinds`. True where any changed.
int replace_kinds(const Call &call, std::vector<PyObject *> &kinds) {
    bool changed = false;
    if (!known_specs && !(known_specs = PyDict_New()))
        return -1;
    for (Py_ssize_t i = 0; i < call.n; i++) {
        if (!is_handle(call.operands[i]))
            continue;
        PyObject *known = PyDict_SetDefault(known_specs, kinds[size_t(i)], kinds[size_t(i)]);
        if (!known)
            return -1;
        changed |= known != kinds[size_t(i)];
        kinds[size_t(i)] = known;
    }
    return changed;
}

Ref ask(const Call &call) {
    const Ref operands = Ref::steal(PyTuple_New(call.n));
    for (Py_ssize_t i = 0; operands && i < call.n; i++)
        PyTuple_SET_ITEM(operands.get(), i, Py_NewRef(call.operands[i]));
    const Ref attrs = call.attrs ? Ref::borrow(call.attrs) : Ref::steal(PyDict_New());
    const Ref form = call.form ? Ref::borrow(call.form) : Ref::steal(PyTuple_New(0));
    if (!operands || !attrs || !form)
        return {};
    // A null pointer would end the arguments there: `narrow` is the last.
    Ref found = Ref::steal(PyObject_CallFunctionObjArgs(hooks.prepare, call.op, operands.get(), attrs.get(), form.get(),
                                                        call.narrow, nullptr));
    if (!found)
        return {};
    if (!Py_IS_TYPE(found.get(), prepared_type)) {
        PyErr_Format(PyExc_TypeError, "prepare: returned a %s, not a Prepared", Py_TYPE(found.get())->tp_name);
        return {};
    }
    if (PyTuple_GET_SIZE(found.as<Prepared>()->dtypes) == call.n)
        return found;
    PyErr_SetString(PyExc_ValueError, "prepare: one dtype per operand is needed");
    return {};
}

// The slow way, for what was not found by identity. An op for one call has what its model has.
Prepared *find_anew(const Call &call, const std::vector<PyObject *> &kinds, const Key &key, uint64_t hash) {
    const Ref model = Ref::steal(PyObject_GetAttrString(call.op, "model"));
    if (!model)
        return nullptr;
    if (model.get() != Py_None) {
        Call like = call;
        like.op = model.get();
        return find_prepared(like);
    }
    std::vector<PyObject *> kept = kinds;
    kept.push_back(call.op);
    if (call.narrow)
        kept.push_back(call.narrow);
    kept.insert(kept.end(), key.identities().begin(), key.identities().end());
    std::vector<Ref> alive; // `prepare` is Python: it may do anything
    for (PyObject *object : kept)
        alive.push_back(Ref::borrow(object));
    std::vector<PyObject *> first = kinds;
    const int changed = replace_kinds(call, first);
    if (changed < 0)
        return nullptr;
    Ref prepared;
    if (changed) {
        Key other;
        if (!write_key(call, first.data(), other))
            return nullptr;
        if (const Entry *entry = look_up(other, other.hash()))
            prepared = Ref::borrow(entry->prepared);
    }
    if (!prepared)
        prepared = ask(call);
    if (!prepared)
        return nullptr;
    if (!look_up(key, hash))
        insert(key, hash, prepared.as<Prepared>(), kept);
    return reinterpret_cast<Prepared *>(prepared.release());
}

} // namespace

Prepared *find_prepared(const Call &call) {
    PyObject *few[8];
    std::vector<PyObject *> many;
    PyObject **kinds = few;
    if (call.n > 8) {
        many.resize(size_t(call.n));
        kinds = many.data();
    }
    for (Py_ssize_t i = 0; i < call.n; i++)
        kinds[i] = kind_of(call.operands[i]);
    Key key;
    if (!write_key(call, kinds, key))
        return nullptr;
    const uint64_t hash = key.hash();
    if (const Entry *entry = look_up(key, hash)) {
        Py_INCREF(entry->prepared);
        return entry->prepared;
    }
    return find_anew(call, std::vector<PyObject *>(kinds, kinds + call.n), key, hash);
}

void clear_memo() {
    auto old = std::move(table);
    table = std::vector<std::unique_ptr<Entry>>(64);
    entries = 0;
    Py_CLEAR(known_specs);
    for (auto &entry : old) {
        if (!entry)
            continue;
        entry->prepared->recipes->clear(); // they may lead back to it
        Py_DECREF(entry->prepared);
        for (PyObject *object : entry->kept)
            Py_DECREF(object);
    }
}

Py_ssize_t memo_size() { return entries; }

} // namespace rabbet
