// The extension rabbet.codegen._loader: objects of machine code mapped into this process.
#include "elf.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#define RB_CAN_LOAD 1
#else
#define RB_CAN_LOAD 0
#endif

namespace nb = nanobind;

namespace rabbet {

namespace {

// Objects in memory of their own, which is written before it may be run and never after. The functions of an object
// may be called as long as this lives.
class Code {
  public:
    Code(const std::vector<nb::bytes> &objects, const Addresses &known);
    ~Code();
    Code(const Code &) = delete;
    Code &operator=(const Code &) = delete;

    const Addresses &functions() const { return functions_; }

  private:
    void fill(const std::vector<Object> &read, const std::vector<size_t> &places, const Addresses &known);

    uint8_t *memory_ = nullptr;
    size_t size_ = 0;
    Addresses functions_;
};

#if RB_CAN_LOAD

[[noreturn]] void fail(const char *what) {
    throw std::system_error(errno, std::generic_category(), what);
}

Code::Code(const std::vector<nb::bytes> &objects, const Addresses &known) {
    std::vector<Object> read;
    std::vector<size_t> places;
    for (const nb::bytes &bytes : objects) {
        read.emplace_back(std::string_view(bytes.c_str(), bytes.size()));
        const size_t unit = read.back().alignment();
        places.push_back((size_ + unit - 1) / unit * unit);
        size_ = places.back() + read.back().size();
    }
    const auto page = size_t(sysconf(_SC_PAGESIZE));
    size_ = (size_ + page - 1) / page * page;
    if (size_ == 0)
        return;
    void *memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("no memory for machine code");
    memory_ = static_cast<uint8_t *>(memory);
    try {
        fill(read, places, known);
    } catch (...) {
        munmap(memory_, size_);
        throw;
    }
}

void Code::fill(const std::vector<Object> &read, const std::vector<size_t> &places, const Addresses &known) {
    for (size_t i = 0; i < read.size(); i++) {
        read[i].place(memory_ + places[i], known);
        read[i].name_functions(memory_ + places[i], functions_);
    }
    if (mprotect(memory_, size_, PROT_READ | PROT_EXEC) != 0)
        fail("machine code may not be run");
}

Code::~Code() {
    if (memory_ != nullptr)
        munmap(memory_, size_);
}

#else

Code::Code(const std::vector<nb::bytes> &, const Addresses &) { throw BadObject("objects are not loaded here"); }
Code::~Code() = default;

#endif

} // namespace

} // namespace rabbet

NB_MODULE(_loader, module) {
    using rabbet::Code;
    nb::set_leak_warnings(false);
    module.doc() = "Machine code in memory.";
    module.attr("can_load") = bool(RB_CAN_LOAD);
    nb::exception<rabbet::BadObject>(module, "BadObject", PyExc_ValueError);
    nb::class_<Code>(module, "Code", "Objects in memory; their functions may be called while this lives.")
        .def(nb::init<const std::vector<nb::bytes> &, const rabbet::Addresses &>(), nb::arg("objects"),
             nb::arg("known"))
        .def_prop_ro("functions", &Code::functions, "Where each function lies.");
}
