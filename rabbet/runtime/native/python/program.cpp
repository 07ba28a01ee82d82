// Program and Bound: the native runtime's objects, with Python's buffers, signals and exceptions.
#include "program.h"

#include "../rabbet.h"
#include "api.h"
#include "buffer.h"
#include "failure.h"

#include <nanobind/stl/vector.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

namespace nb = nanobind;

namespace rabbet {

namespace {

// Scalar operations; a shorter run (10 us at most) keeps the GIL, as letting go would cost more.
constexpr int64_t release_gil_from = 65536;

Buffer &as_buffer(nb::handle object, const char *what, size_t number) {
    if (!nb::isinstance<Buffer>(object)) {
        PyErr_Format(PyExc_TypeError, "%s %zu is a %s, not a Buffer", what, number, Py_TYPE(object.ptr())->tp_name);
        throw nb::python_error();
    }
    return *nb::inst_ptr<Buffer>(object);
}

struct Program {
    rb_program *program = nullptr;
    std::vector<nb::object> kept; // constants and the owner of the kernels' code

    Program(nb::bytes words, const std::vector<uintptr_t> &kernel_addresses, nb::list constants, nb::object owner);
    ~Program() { rb_program_release(program); }
    Program(const Program &) = delete;
    Program &operator=(const Program &) = delete;

    int64_t count(int kind) const { return rb_program_count(program, kind); }
};

Program::Program(nb::bytes words, const std::vector<uintptr_t> &kernel_addresses, nb::list constants,
                 nb::object owner) {
    if (words.size() % sizeof(int64_t) != 0)
        raise_program_error("plan: " + std::to_string(words.size()) + " bytes are not whole words");
    std::vector<int64_t> plan(words.size() / sizeof(int64_t));
    std::memcpy(plan.data(), words.c_str(), words.size());
    std::vector<rb_kernel> kernels;
    for (uintptr_t address : kernel_addresses)
        kernels.push_back(reinterpret_cast<rb_kernel>(address));
    std::vector<rb_constant> data;
    for (nb::handle constant : constants) {
        const Buffer &buffer = as_buffer(constant, "constant", data.size());
        data.push_back({buffer.data, int64_t(buffer.nbytes)});
        kept.push_back(nb::borrow(constant));
    }
    kept.push_back(std::move(owner));
    rb_error error{};
    if (rb_program_create(plan.data(), plan.size(), kernels.data(), kernels.size(), data.data(), data.size(),
                          &program, &error) != RB_OK)
        raise(error);
}

// Raises TypeError for what is no sequence of integers, OverflowError beyond 64 bits.
std::vector<int64_t> as_integers(nb::handle sequence) {
    const nb::object tuple = nb::steal(PySequence_Tuple(sequence.ptr()));
    if (!tuple.is_valid())
        throw nb::python_error();
    std::vector<int64_t> values;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple.ptr()); i++) {
        values.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(tuple.ptr(), i)));
        if (values.back() == -1 && PyErr_Occurred())
            throw nb::python_error();
    }
    return values;
}

struct Bound {
    rb_bound *bound;
    nb::object program; // keeps kernels and constants
    BoundFacts facts;
    int64_t n_calls;

    Bound(rb_bound *bound, nb::object owner);
    ~Bound() { rb_bound_release(bound); }
    Bound(const Bound &) = delete;
    Bound &operator=(const Bound &) = delete;
};

std::vector<int64_t> sizes_of(const rb_bound *bound, int kind, int64_t n) {
    std::vector<int64_t> sizes;
    for (int64_t i = 0; i < n; i++)
        sizes.push_back(rb_bound_bytes(bound, kind, i));
    return sizes;
}

Bound::Bound(rb_bound *given, nb::object owner) : bound(given), program(std::move(owner)) {
    const auto *of = nb::inst_ptr<Program>(program);
    facts.input_bytes = sizes_of(bound, RB_INPUT, of->count(RB_INPUT));
    facts.output_bytes = sizes_of(bound, RB_OUTPUT, of->count(RB_OUTPUT));
    facts.cost = rb_bound_cost(bound);
    facts.is_long = facts.cost >= release_gil_from;
    n_calls = rb_program_calls(of->program);
    for (int64_t i = 0; i < of->count(RB_OUTPUT); i++)
        facts.donors.push_back(rb_program_donor(of->program, i));
}

Bound *bind(nb::handle self, nb::handle symbols) {
    const auto *program = nb::inst_ptr<Program>(self);
    const auto values = as_integers(symbols);
    rb_bound *bound = nullptr;
    rb_error error{};
    if (rb_program_bind(program->program, values.data(), values.size(), &bound, &error) != RB_OK)
        raise(error);
    return new Bound(bound, nb::borrow(self)); // Python's from here on
}

// The addresses behind a list of buffers; holds references, so another thread may change the list meanwhile.
class Addresses {
  public:
    Addresses(nb::handle list, const std::vector<int64_t> &sizes, const char *what, bool written);
    void *const *data() const { return many_.empty() ? few_.data() : many_.data(); }

  private:
    nb::object buffers_;
    std::array<void *, 32> few_;
    std::vector<void *> many_;
};

[[noreturn]] void raise_size(const char *what, size_t number, size_t bytes, int64_t needed) {
    raise_program_error(std::string(what) + " " + std::to_string(number) + " has " + std::to_string(bytes) +
                        " bytes, the program needs " + std::to_string(needed));
}

Addresses::Addresses(nb::handle list, const std::vector<int64_t> &sizes, const char *what, bool written)
    : buffers_(nb::steal(PySequence_Tuple(list.ptr()))) {
    if (!buffers_.is_valid())
        throw nb::python_error();
    const auto n = size_t(PyTuple_GET_SIZE(buffers_.ptr()));
    if (n != sizes.size())
        raise_program_error("the program has " + std::to_string(sizes.size()) + " " + what + "s, " +
                            std::to_string(n) + " were given");
    if (n > few_.size())
        many_.resize(n);
    void **addresses = many_.empty() ? few_.data() : many_.data();
    for (size_t i = 0; i < n; i++) {
        const Buffer &buffer = as_buffer(PyTuple_GET_ITEM(buffers_.ptr(), Py_ssize_t(i)), what, i);
        if (buffer.nbytes < size_t(sizes[i]))
            raise_size(what, i, buffer.nbytes, sizes[i]);
        if (written && buffer.readonly)
            raise_program_error(std::string(what) + " " + std::to_string(i) + " is read-only memory");
        addresses[i] = buffer.data;
    }
}

// The GIL, let go of for a run and taken back for each poll.
struct Released {
    PyThreadState *thread = PyEval_SaveThread();
    ~Released() { PyEval_RestoreThread(thread); }

    static int poll(void *context) {
        auto *self = static_cast<Released *>(context);
        PyEval_RestoreThread(self->thread);
        const int failed = PyErr_CheckSignals(); // the exception waits on this thread
        self->thread = PyEval_SaveThread();
        return failed;
    }
};

int run_released(const Bound &self, void *const *inputs, void *const *outputs, rb_options options, rb_error &error) {
    Released released;
    options.poll = Released::poll;
    options.context = &released;
    return rb_run(self.bound, inputs, outputs, &options, &error);
}

void run_at(const Bound &self, void *const *inputs, void *const *outputs, int64_t *profile) {
    rb_error error{};
    rb_options options{};
    options.profile = profile;
    const int code = self.facts.is_long ? run_released(self, inputs, outputs, options, error)
                                        : rb_run(self.bound, inputs, outputs, &options, &error);
    if (code == RB_OK)
        return;
    if (code == RB_INTERRUPTED && PyErr_Occurred())
        throw nb::python_error();
    raise(error);
}

void run_with(const Bound &self, nb::handle inputs, nb::handle outputs, int64_t *profile) {
    const Addresses in(inputs, self.facts.input_bytes, "input", false);
    const Addresses out(outputs, self.facts.output_bytes, "output", true);
    run_at(self, in.data(), out.data(), profile);
}

void run(const Bound &self, nb::handle inputs, nb::handle outputs) { run_with(self, inputs, outputs, nullptr); }

std::vector<int64_t> profile(const Bound &self, nb::handle inputs, nb::handle outputs) {
    std::vector<int64_t> nanoseconds(size_t(self.n_calls), 0);
    run_with(self, inputs, outputs, nanoseconds.data());
    return nanoseconds;
}

nb::tuple place(const Bound &self, int64_t index) {
    int64_t offset = 0, bytes = 0;
    if (rb_bound_place(self.bound, index, &offset, &bytes) != RB_OK) {
        PyErr_Format(PyExc_IndexError, "the plan has no buffer %lld", static_cast<long long>(index));
        throw nb::python_error();
    }
    return nb::make_tuple(offset, bytes);
}

void define_bound(nb::module_ &module) {
    nb::class_<Bound>(module, "Bound", nb::is_final(), "A program with all its sizes known; runs any number of times.")
        .def("run", &run, nb::arg("inputs"), nb::arg("outputs"),
             "Runs once, without the GIL unless it is short.\n\n"
             "An output may be the buffer of its donor, and is written over then. Raises IndexFailure, ProgramError,\n"
             "MemoryError, and what a signal handler raises.")
        .def("profile", &profile, nb::arg("inputs"), nb::arg("outputs"), "Runs once; nanoseconds of each call.")
        .def("place", &place, nb::arg("buffer"), "(offset in the arena or -1, bytes) of a buffer of the plan.")
        .def_prop_ro("input_bytes", [](const Bound &self) { return self.facts.input_bytes; },
                     "Bytes each input must have (0: unused).")
        .def_prop_ro("output_bytes", [](const Bound &self) { return self.facts.output_bytes; },
                     "Bytes each output must have.")
        .def_prop_ro("donors", [](const Bound &self) { return self.facts.donors; },
                     "For each output the input that it may be written over, or -1.")
        .def_prop_ro("cost", [](const Bound &self) { return rb_bound_cost(self.bound); },
                     "Scalar operations of one run, roughly.")
        .def_prop_ro("arena_bytes", [](const Bound &self) { return rb_bound_arena_bytes(self.bound); },
                     "Size of the arena.")
        .def_prop_ro("live_bytes", [](const Bound &self) { return rb_bound_live_bytes(self.bound); },
                     "The most that is alive in the arena at once.")
        .def_prop_ro("unshared_bytes", [](const Bound &self) { return rb_bound_unshared_bytes(self.bound); },
                     "What the arena would take if nothing were reused.");
}

// ---- for the recorder's extension: no exception leaves these ------------------------------------------

template <class T, class Work> T without_exceptions(T failed, Work work) {
    try {
        return work();
    } catch (nb::python_error &error) {
        error.restore();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return failed;
}

PyObject *api_new_buffer(int64_t bytes) {
    return without_exceptions<PyObject *>(nullptr, [&] {
        nb::object object = nb::inst_alloc(nb::type<Buffer>());
        new (nb::inst_ptr<Buffer>(object)) Buffer(bytes);
        nb::inst_mark_ready(object);
        return object.release().ptr();
    });
}

Buffer *api_buffer_of(PyObject *buffer) { return nb::inst_ptr<Buffer>(buffer); }

const BoundFacts *api_facts_of(PyObject *bound) { return &nb::inst_ptr<Bound>(bound)->facts; }

bool api_run(PyObject *bound, void *const *inputs, void *const *outputs) {
    return without_exceptions(false, [&] {
        run_at(*nb::inst_ptr<Bound>(bound), inputs, outputs, nullptr);
        return true;
    });
}

void define_api(nb::module_ &module) {
    static RuntimeApi api{};
    api.buffer_type = reinterpret_cast<PyTypeObject *>(nb::type<Buffer>().ptr());
    api.bound_type = reinterpret_cast<PyTypeObject *>(nb::type<Bound>().ptr());
    api.new_buffer = api_new_buffer;
    api.buffer_of = api_buffer_of;
    api.facts_of = api_facts_of;
    api.run = api_run;
    module.attr("_api") = nb::capsule(&api, api_name);
}

} // namespace

void define_program(nb::module_ &module) {
    nb::class_<Program>(module, "Program", nb::is_final(), nb::is_weak_referenceable(),
                        "A checked plan with its kernels (by address) and constants.\n\n"
                        "`owner` is whatever keeps the kernels' code in memory. Raises ProgramError.")
        .def(nb::init<nb::bytes, const std::vector<uintptr_t> &, nb::list, nb::object>(), nb::arg("words"),
             nb::arg("kernel_addresses"), nb::arg("constants"), nb::arg("owner") = nb::none())
        .def("bind", &bind, nb::arg("symbols"),
             "The program for these symbol values; the last 16 are remembered.\n\n"
             "Raises GuardError if it was not made for them, ProgramError if a size overflows.")
        .def_prop_ro("n_symbols", [](const Program &self) { return rb_program_symbols(self.program); })
        .def_prop_ro("n_inputs", [](const Program &self) { return self.count(RB_INPUT); })
        .def_prop_ro("n_outputs", [](const Program &self) { return self.count(RB_OUTPUT); })
        .def_prop_ro("n_calls", [](const Program &self) { return rb_program_calls(self.program); });
    define_bound(module);
    define_api(module);
}

} // namespace rabbet
