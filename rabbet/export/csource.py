"""NAME.c of a native library: the tables, and the public functions around clibrary/library.c."""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.export.cnames import (
    CPU_FEATURES,
    STATUSES,
    Unit,
    c_string,
    port_names,
    predict_parameters,
    size_names,
    size_parameters,
)
from rabbet.export.portable import Named, SizeForm


def source_text(unit: Unit) -> str:
    """NAME.c: the tables, and the public functions around native/library.c."""
    entry = unit.entry
    most = max(map(len, unit.constants.given))
    return "\n".join(
        [
            f"#define N_VERSIONS {len(unit.versions)}",
            f"#define N_SIZES {len(entry.symbols)}",
            f"#define N_INPUTS {len(entry.inputs)}",
            f"#define N_WEIGHTS {most}",
            f'#include "{unit.name}.h"',
            "#include <stdbool.h>",
            "#include <stddef.h>",
            "static bool library_sizes_fit(const int64_t *sizes);",
            '#include "library.c"',
            _weights_text(unit),
            _versions_text(unit),
            _guard_text(unit),
            _functions_text(unit),
            _ports_text(unit, "input", entry.inputs),
            _ports_text(unit, "output", entry.outputs),
        ]
    )


def _weights_text(unit: Unit) -> str:
    path = unit.weights_file.replace("\\", "\\\\").replace('"', '\\"')

    def included(symbol: str, before: str, after: str) -> str:
        lines = [f"{before}", ".balign 64", f".globl {symbol}", f"{symbol}:"]
        lines += [f'.incbin "{path}"', ".byte 0", after, ""]
        return f"__asm__({c_string(chr(10).join(lines))});"

    return "\n".join(
        [
            'extern const uint8_t library_weights[] __attribute__((visibility("hidden")));',
            "#ifdef __APPLE__",
            included("_library_weights", ".section __TEXT,__const", ".text"),
            "#else",
            included("library_weights", ".section .rodata", ".text"),
            "#endif",
            "const void *const WEIGHT_TABLE[] = {",
            *(f"    library_weights + {offset}," for offset in unit.constants.offsets),
            "    library_weights};",
        ]
    )


def _versions_text(unit: Unit) -> str:
    text = []
    for function in sorted({k for names in unit.kernels for k in names}):
        text.append(
            f"void {function}(uint8_t *const *, const int64_t *, int64_t, int64_t, uint8_t *, "
            "int64_t *);"
        )
    for i, (version, names) in enumerate(zip(unit.versions, unit.kernels, strict=True)):
        words = memoryview(version.compiled.words).cast("q").tolist()
        rows = [", ".join(map(_word, words[k : k + 8])) for k in range(0, len(words), 8)]
        text.append(f"static const int64_t words_{i}[] = {{\n    " + ",\n    ".join(rows) + "};")
        text.append(f"static const rb_kernel kernels_{i}[] = {{{', '.join([*names, 'NULL'])}}};")
        weights = ", ".join(map(str, [*unit.constants.given[i], -1]))
        text.append(f"static const int weights_{i}[] = {{{weights}}};")
    text.append("const library_version VERSION_TABLE[N_VERSIONS] = {")
    for i, (version, names) in enumerate(zip(unit.versions, unit.kernels, strict=True)):
        n_words = len(version.compiled.words) // 8
        text.append(
            f"    {{words_{i}, {n_words}, kernels_{i}, {len(names)}, weights_{i}, "
            f"{len(unit.constants.given[i])}}},"
        )
    text.append("};")
    return "\n".join(text)


def _word(word: int) -> str:
    return f"INT64_C({word})" if word > -(1 << 63) else "INT64_MIN"


def _guard_text(unit: Unit) -> str:
    """library_sizes_fit: no size is negative, and the entry's guards hold."""
    tests = [f"    fits = fits && sizes[{i}] >= 0;" for i in range(len(unit.entry.symbols))]
    for relation, form in unit.entry.guards:
        tests.append(f"    fits = ({_c_form(unit, form)} {relation} 0) && fits;")
    body = "\n".join(tests)
    return (
        "static bool library_sizes_fit(const int64_t *sizes) {\n    bool fits = true;\n"
        "    (void)sizes;\n"
        f"{body}\n    return fits;\n}}"
    )


def _functions_text(unit: Unit) -> str:
    name, upper = unit.name, unit.name.upper()
    sizes, given = ", ".join([*size_names(unit), "0"]), size_parameters(unit)
    inputs, outputs = (", ".join(p) for p in port_names(unit))
    features = {f.lstrip("+") for f in unit.target.features.split(",")}
    tests = "".join(
        f'    if (!__builtin_cpu_supports("{f}"))\n        return {upper}_CPU;\n'
        for f in CPU_FEATURES
        if f in features
    )
    passed = "".join(f"{s}, " for s in size_names(unit))
    prepare = "    __builtin_cpu_init();\n" if tests else ""
    messages = ",\n        ".join(c_string(text) for _, text in STATUSES)
    known = ", ".join([*(c_string(n) for n, _ in unit.entry.symbols), "NULL"])
    return f"""
#define PUBLIC __attribute__((visibility("default")))

struct {name}_model {{
    library_model inner;
}};

PUBLIC {name}_status {name}_check(void) {{
{prepare}{tests}    return {upper}_OK;
}}

PUBLIC {name}_model *{name}_open(void) {{
    return {name}_check() == {upper}_OK ? ({name}_model *)library_open() : NULL;
}}

PUBLIC {name}_status {name}_run({name}_model *m, {given}const void *const *inputs,
                                void *const *outputs) {{
    const int64_t sizes[] = {{{sizes}}};
    return ({name}_status)library_run(&m->inner, sizes, inputs, outputs);
}}

PUBLIC {name}_status {name}_predict({predict_parameters(unit)}) {{
    const void *const library_inputs[] = {{{inputs}}};
    void *const library_outputs[] = {{{outputs}}};
    return {name}_run(m, {passed}library_inputs, library_outputs);
}}

PUBLIC const char *{name}_message({name}_status status) {{
    static const char *const messages[] = {{
        {messages}}};
    if ((int)status < 0 || (size_t)status >= sizeof messages / sizeof messages[0])
        return "unknown status";
    return messages[status];
}}

PUBLIC void {name}_close({name}_model *m) {{ library_close((library_model *)m); }}

PUBLIC int {name}_size_count(void) {{ return N_SIZES; }}

PUBLIC const char *{name}_size_name(int number) {{
    static const char *const names[] = {{{known}}};
    return number >= 0 && number < N_SIZES ? names[number] : NULL;
}}
"""


def _ports_text(unit: Unit, kind: str, ports: Sequence[Named]) -> str:
    name, upper = unit.name, unit.name.upper()
    names = ", ".join([*(c_string(p.name) for p in ports), "NULL"])
    dtypes = ", ".join([*(f"{upper}_{p.spec.dtype.name.upper()}" for p in ports), "0"])
    ranks = ", ".join([*(str(len(p.spec.shape)) for p in ports), "0"])
    cases = []
    for number, port in enumerate(ports):
        fills = "".join(
            f"        shape[{axis}] = {_c_form(unit, form)};\n"
            for axis, form in enumerate(port.spec.shape)
        )
        cases.append(f"    case {number}:\n{fills}        break;\n")
    sizes = ", ".join([*size_names(unit), "0"])
    count = len(ports)
    return f"""
PUBLIC int {name}_{kind}_count(void) {{ return {count}; }}

PUBLIC const char *{name}_{kind}_name(int number) {{
    static const char *const names[] = {{{names}}};
    return number >= 0 && number < {count} ? names[number] : NULL;
}}

PUBLIC {name}_dtype {name}_{kind}_dtype(int number) {{
    static const {name}_dtype dtypes[] = {{{dtypes}}};
    return number >= 0 && number < {count} ? dtypes[number] : ({name}_dtype)0;
}}

PUBLIC int {name}_{kind}_rank(int number) {{
    static const int ranks[] = {{{ranks}}};
    return number >= 0 && number < {count} ? ranks[number] : 0;
}}

PUBLIC {name}_status {name}_{kind}_shape(int number, {size_parameters(unit)}int64_t *shape) {{
    const int64_t sizes[] = {{{sizes}}};
    bool fits = true;
    if (!shape)
        return {upper}_ARGUMENT;
    if (!library_sizes_fit(sizes))
        return {upper}_SIZE;
    switch (number) {{
{"".join(cases)}    default:
        return {upper}_ARGUMENT;
    }}
    return fits ? {upper}_OK : {upper}_SIZE;
}}
"""


def _c_form(unit: Unit, form: SizeForm) -> str:
    """A size form as C; overflows clear `fits`."""
    if isinstance(form, int):
        return _word(form)
    if isinstance(form, str):
        return f"sizes[{[n for n, _ in unit.entry.symbols].index(form)}]"
    operation, first, *rest = form
    text = _c_form(unit, first)
    for part in rest:
        other = _c_form(unit, part)
        if operation in ("max", "min"):
            text = f"library_{operation}({text}, {other})"
        else:
            function = {"+": "add", "*": "multiply", "//": "floordiv", "%": "modulo"}[operation]
            text = f"library_{function}({text}, {other}, &fits)"
    return text
