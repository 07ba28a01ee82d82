#include "site.h"

#include <cstring>

// Names before Python 3.12.
#if PY_VERSION_HEX < 0x030C0000
#define PyUnstable_Eval_RequestCodeExtraIndex _PyEval_RequestCodeExtraIndex
#define PyUnstable_Code_GetExtra _PyCode_GetExtra
#define PyUnstable_Code_SetExtra _PyCode_SetExtra
#endif

namespace rabbet {

namespace {

// Every code object remembers whether it is ours: one of these two, nullptr where nobody asked yet.
char ours, theirs;
Py_ssize_t slot = -1;

bool is_package(PyFrameObject *frame) {
    const Ref globals = Ref::steal(PyFrame_GetGlobals(frame));
    PyObject *name = PyDict_GetItemString(globals.get(), "__name__");
    const char *text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
    if (!text) {
        PyErr_Clear(); // a module without a readable name is not ours
        return false;
    }
    return std::strncmp(text, "rabbet", 6) == 0 && (text[6] == '.' || text[6] == '\0');
}

bool is_ours(PyFrameObject *frame, PyObject *code) {
    void *known = nullptr;
    if (PyUnstable_Code_GetExtra(code, slot, &known) == 0 && known)
        return known == &ours;
    const bool found = is_package(frame);
    if (PyUnstable_Code_SetExtra(code, slot, found ? &ours : &theirs) != 0)
        PyErr_Clear(); // asked again next time
    return found;
}

} // namespace

Site user_site() {
    Ref frame = Ref::steal(PyThreadState_GetFrame(PyThreadState_Get()));
    while (frame) {
        Ref code = Ref::steal(PyFrame_GetCode(frame.as<PyFrameObject>()));
        if (!is_ours(frame.as<PyFrameObject>(), code.get()))
            return {std::move(code), PyFrame_GetLasti(frame.as<PyFrameObject>())};
        frame = Ref::steal(PyFrame_GetBack(frame.as<PyFrameObject>()));
    }
    return {};
}

bool prepare_sites() {
    slot = PyUnstable_Eval_RequestCodeExtraIndex(nullptr);
    if (slot >= 0)
        return true;
    PyErr_SetString(PyExc_RuntimeError, "no more room for extra data of code objects");
    return false;
}

} // namespace rabbet
