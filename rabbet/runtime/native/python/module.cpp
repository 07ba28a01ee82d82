// The extension rabbet.runtime._runtime: the native runtime for Python.
#include "../rabbet.h"
#include "buffer.h"
#include "failure.h"
#include "program.h"

#include <nanobind/nanobind.h>

namespace nb = nanobind;

namespace {

int num_threads() {
    const int threads = rb_num_threads();
    if (threads < 0)
        throw nb::value_error("RABBET_NUM_THREADS is not a whole number from 1 to 256");
    return threads;
}

void set_num_threads(int threads) {
    if (rb_set_num_threads(threads) != RB_OK)
        throw nb::value_error("set_num_threads: from 1 to 256 threads, or 0 for the default");
}

} // namespace

NB_MODULE(_runtime, module) {
    nb::set_leak_warnings(false); // users may well hold tensors until the interpreter is gone
    module.doc() = "The native runtime: buffers, programs, threads.";
    rabbet::define_failures(module);
    rabbet::define_buffer(module);
    rabbet::define_program(module);
    module.def("num_threads", &num_threads,
               "Threads a program may use: RABBET_NUM_THREADS, else the cores this process may use.");
    module.def("set_num_threads", &set_num_threads, nb::arg("threads"),
               "Sets how many threads programs use from now on; 0 is the default again.");
    module.def("cached_bytes", &rb_memory_cached, "Bytes of freed memory kept for the next buffer or arena.");
    module.def("live_bytes", &rb_memory_live, "Bytes of memory in use by buffers and running programs.");
    module.def("set_cache_limit", &rb_memory_set_limit, nb::arg("bytes"), "Most bytes to keep of freed memory.");
    module.def("release_memory", &rb_memory_trim, "Returns all freed memory to the system.");
}
