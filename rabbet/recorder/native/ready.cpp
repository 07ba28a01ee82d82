// Operands that cannot enter a tape as they are.
#include "record.h"

#include <unordered_map>
#include <vector>

namespace rabbet {

namespace {

bool raise(const char *error, const char *format, Node *node) {
    const Ref errors = Ref::steal(PyImport_ImportModule("rabbet.base.errors"));
    const Ref type = Ref::steal(errors ? PyObject_GetAttrString(errors.get(), error) : nullptr);
    const Ref name = Ref::steal(type && node->op ? PyObject_GetAttrString(node->op, "name") : nullptr);
    if (type && (name || !node->op))
        PyErr_Format(type.get(), format, node->op ? name.get() : Py_None);
    return false;
}

Node *copy_of(const Node *node, const std::unordered_map<const Node *, Node *> &fresh) {
    Node *copy = new_node();
    if (!copy || !resize_outputs(copy, node->n_outputs) || !reserve_edges(copy, node->n_edges)) {
        Py_XDECREF(py(copy));
        return nullptr;
    }
    copy->op = Py_XNewRef(node->op);
    copy->attrs = Py_XNewRef(node->attrs);
    copy->form = Py_XNewRef(node->form);
    copy->specs = Py_XNewRef(node->specs);
    copy->code = Py_XNewRef(node->code);
    copy->lasti = node->lasti;
    copy->prepared = reinterpret_cast<Prepared *>(Py_NewRef(py(node->prepared)));
    for (int32_t i = 0; i < node->n_edges; i++) {
        const auto found = fresh.find(node->edges[i].node);
        Node *source = found == fresh.end() ? node->edges[i].node : found->second;
        Py_INCREF(py(source));
        copy->edges[i] = {source, node->edges[i].index};
    }
    copy->n_edges = node->n_edges;
    return copy;
}

// Dropped, and not on its way: its op must be recorded again.
bool is_missing(const Edge &edge) { return !edge.node->tape && !has_value(edge.node, edge.index); }

// Its op can be recorded again only while it has its operands.
bool check_remembered(Node *node) {
    if (node->op && node->prepared && node->n_edges == PyTuple_GET_SIZE(node->prepared->dtypes))
        return true;
    return raise("DroppedValue",
                 "%S: its value was dropped, and what it was computed from was freed by backward(); pass "
                 "retain_graph=True there",
                 node);
}

// Records an evicted node once more, from what is left of its ancestors (no recursion): the copy, borrowed from
// the tape; nullptr and an error.
Node *record_again(Tape *tape, Node *node) {
    std::unordered_map<const Node *, Node *> fresh;
    std::vector<Node *> stack{node};
    while (!stack.empty()) {
        Node *top = stack.back();
        if (fresh.count(top)) {
            stack.pop_back();
            continue;
        }
        if (!check_remembered(top))
            return nullptr;
        const size_t depth = stack.size();
        for (int32_t i = 0; i < top->n_edges; i++)
            if (is_missing(top->edges[i]) && !fresh.count(top->edges[i].node))
                stack.push_back(top->edges[i].node);
        if (stack.size() > depth)
            continue;
        stack.pop_back();
        Node *copy = copy_of(top, fresh);
        if (!copy)
            return nullptr;
        fresh[top] = copy;
        const bool done = append(tape, copy);
        Py_DECREF(py(copy)); // the tape has its own reference
        if (!done)
            return nullptr;
    }
    return fresh[node];
}

bool make_edge_ready(Tape *tape, Edge &edge) {
    Node *node = edge.node;
    if (node->tape && !waits_on(node, tape)) {
        const Ref other = Ref::borrow(node->tape);
        if (!flush(other.as<Tape>()))
            return false;
        if (node->tape)
            return raise("InternalError", "%S: its segment was taken from its tape and never computed", node);
    }
    if (node->error) {
        PyErr_SetObject(py(Py_TYPE(node->error)), node->error);
        return false;
    }
    if (is_ready(tape, edge))
        return true;
    Node *copy = record_again(tape, node);
    if (!copy)
        return false;
    Py_INCREF(py(copy));
    edge.node = copy;
    Py_DECREF(py(node));
    return true;
}

} // namespace

bool flush(Tape *tape) {
    const int known = flush_known(tape);
    if (known != 0)
        return known > 0;
    const Ref done = Ref::steal(PyObject_CallOneArg(hooks.flush, py(tape)));
    return bool(done);
}

bool make_ready(Tape *tape, Node *node) {
    for (int32_t i = 0; i < node->n_edges;) {
        if (is_ready(tape, node->edges[i])) {
            i++;
            continue;
        }
        const Ref source = Ref::borrow(node->edges[i].node);
        if (!make_edge_ready(tape, node->edges[i]))
            return false;
        i = 0; // another thread may have computed this tape meanwhile: look at all of them again
    }
    return true;
}

} // namespace rabbet
