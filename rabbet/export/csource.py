"""The C text of a native library: its header, its generated source, an example program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rabbet.base.target import Target
from rabbet.export.portable import Entry, Named, SizeForm, Weight, show_form
from rabbet.export.versions import Compilation

C_TYPES = {
    "bool": "uint8_t",
    "float32": "float",
    "float64": "double",
    **{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
}
KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int "
    "long register restrict return short signed sizeof static struct switch typedef union unsigned void "
    "volatile while m status shape number sizes inputs outputs fits library_inputs library_outputs".split()
)
# LLVM's feature names that compilers can ask for at run time; the rest come with these.
CPU_FEATURES = (
    *("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi", "bmi2"),
    *("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"),
)
STATUSES = (
    ("OK", "success"),
    ("ARGUMENT", "an argument is missing (NULL)"),
    ("SIZE", "the model was not exported for these sizes"),
    ("INDEX", "an index computed by the model lies outside its axis"),
    ("MEMORY", "not enough memory"),
    ("CPU", "this CPU lacks instructions that the library was built with"),
    ("INTERNAL", "internal error"),
)


@dataclass(frozen=True)
class Unit:
    """What the texts are made from."""

    name: str
    entry: Entry
    weights: Sequence[Weight]
    versions: Sequence[Compilation]
    kernels: Sequence[Sequence[str]]  # per version: function names
    target: Target
    weights_file: str


def identifier(name: str, taken: set[str] | None = None) -> str:
    """`name` as a C identifier, another than those taken (and then added to them)."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    plain = f"_{plain}" if plain[0].isdigit() or plain in KEYWORDS else plain
    unique, number = plain, 1
    while taken is not None and unique in taken:
        number += 1
        unique = f"{plain}_{number}"
    if taken is not None:
        taken.add(unique)
    return unique


def _sizes(unit: Unit) -> list[str]:
    taken: set[str] = set()
    return [identifier(n, taken) for n, _ in unit.entry.symbols]


def _size_parameters(unit: Unit) -> str:
    return "".join(f"int64_t {s}, " for s in _sizes(unit))


def _ports(unit: Unit) -> tuple[list[str], list[str]]:
    taken = set(_sizes(unit))
    inputs = [identifier(n.name, taken) for n in unit.entry.inputs]
    return inputs, [identifier(n.name, taken) for n in unit.entry.outputs]


def _predict_parameters(unit: Unit) -> str:
    inputs, outputs = _ports(unit)
    given = [
        f"const {C_TYPES[n.spec.dtype.name]} *{p}"
        for n, p in zip(unit.entry.inputs, inputs, strict=True)
    ]
    given += [
        f"{C_TYPES[n.spec.dtype.name]} *{p}"
        for n, p in zip(unit.entry.outputs, outputs, strict=True)
    ]
    return f"{unit.name}_model *m, {_size_parameters(unit)}{', '.join(given)}"


def _described(ports: Sequence[Named]) -> str:
    return "\n".join(
        f" *   {p.name}: {p.spec.dtype.name}[{', '.join(show_form(d) for d in p.spec.shape)}]"
        for p in ports
    )


def header_text(unit: Unit) -> str:
    """NAME.h: every declaration with what a caller must know."""
    name, upper = unit.name, unit.name.upper()
    sizes = _size_parameters(unit)
    statuses = "\n".join(
        f"    {upper}_{s} = {i}, /* {text} */" for i, (s, text) in enumerate(STATUSES)
    )
    dtypes = "\n".join(f"    {upper}_{d.upper()} = {i}," for i, d in enumerate(C_TYPES))
    guards = "".join(
        f"\n * Sizes must satisfy: {show_form(f)} {r} 0." for r, f in unit.entry.guards
    )
    return f"""\
/* {name}: a model as a library. It needs nothing but the C library, and its weights are inside.
 *
 * Inputs, as arrays in row-major order without gaps:
{_described(unit.entry.inputs)}
 * Outputs, in memory of the caller's:
{_described(unit.entry.outputs)}
 *
 * Threads: an open model may be used by several threads at once; each call may itself use several threads
 * (RABBET_NUM_THREADS sets how many). Results do not depend on the number of threads.
 * Built for {unit.target.name} ({unit.target.triple}).{guards}
 */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

typedef struct {name}_model {name}_model;

typedef enum {name}_status {{
{statuses}
}} {name}_status;

typedef enum {name}_dtype {{
{dtypes}
}} {name}_dtype;

/* {upper}_OK, or {upper}_CPU where this machine cannot run the library; the other functions then must not be
 * called ({name}_open returns NULL). */
{name}_status {name}_check(void);

/* A model ready to run; NULL if there is no memory or the CPU is the wrong one. */
{name}_model *{name}_open(void);

/* Runs the model: inputs in order, then outputs. */
{name}_status {name}_predict({_predict_parameters(unit)});

/* The same with arrays of pointers. */
{name}_status {name}_run({name}_model *m, {sizes}const void *const *inputs, void *const *outputs);

/* What a status means, in words. Never NULL. */
const char *{name}_message({name}_status status);

/* Frees the model; NULL is allowed. No call may be using it. */
void {name}_close({name}_model *m);

/* What goes in and comes out. Numbers out of range give 0, NULL or {upper}_ARGUMENT. The shape functions fill
 * `shape` with as many sizes as the rank says. */
int {name}_input_count(void);
int {name}_output_count(void);
int {name}_size_count(void);
const char *{name}_size_name(int number);
const char *{name}_input_name(int number);
const char *{name}_output_name(int number);
{name}_dtype {name}_input_dtype(int number);
{name}_dtype {name}_output_dtype(int number);
int {name}_input_rank(int number);
int {name}_output_rank(int number);
{name}_status {name}_input_shape(int number, {sizes}int64_t *shape);
{name}_status {name}_output_shape(int number, {sizes}int64_t *shape);

#ifdef __cplusplus
}}
#endif

#endif
"""


# ---- source ----------------------------------------------------------------------------------------


def source_text(unit: Unit) -> str:
    """NAME.c: the tables, and the public functions around native/library.c."""
    entry = unit.entry
    most = max(len(v.weights) for v in unit.versions)
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
        return f"__asm__({_c_string(chr(10).join(lines))});"

    return "\n".join(
        [
            'extern const uint8_t library_weights[] __attribute__((visibility("hidden")));',
            "#ifdef __APPLE__",
            included("_library_weights", ".section __TEXT,__const", ".text"),
            "#else",
            included("library_weights", ".section .rodata", ".text"),
            "#endif",
            "const void *const WEIGHT_TABLE[] = {",
            *(f"    library_weights + {w.offset}," for w in unit.weights),
            "    NULL};",
        ]
    )


def _versions_text(unit: Unit) -> str:
    text = []
    for function in sorted({k for names in unit.kernels for k in names}):
        text.append(
            f"void {function}(uint8_t *const *, const int64_t *, int64_t, int64_t, uint8_t *, int64_t *);"
        )
    for i, (version, names) in enumerate(zip(unit.versions, unit.kernels, strict=True)):
        words = memoryview(version.compiled.words).cast("q").tolist()
        rows = [", ".join(map(_word, words[k : k + 8])) for k in range(0, len(words), 8)]
        text.append(f"static const int64_t words_{i}[] = {{\n    " + ",\n    ".join(rows) + "};")
        text.append(f"static const rb_kernel kernels_{i}[] = {{{', '.join([*names, 'NULL'])}}};")
        weights = ", ".join(map(str, [*version.weights, -1]))
        text.append(f"static const int weights_{i}[] = {{{weights}}};")
    text.append("const library_version VERSION_TABLE[N_VERSIONS] = {")
    for i, (version, names) in enumerate(zip(unit.versions, unit.kernels, strict=True)):
        n_words = len(version.compiled.words) // 8
        text.append(
            f"    {{words_{i}, {n_words}, kernels_{i}, {len(names)}, weights_{i}, {len(version.weights)}}},"
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
        "static bool library_sizes_fit(const int64_t *sizes) {\n    bool fits = true;\n    (void)sizes;\n"
        f"{body}\n    return fits;\n}}"
    )


def _functions_text(unit: Unit) -> str:
    name, upper = unit.name, unit.name.upper()
    sizes, size_parameters = ", ".join([*_sizes(unit), "0"]), _size_parameters(unit)
    inputs, outputs = (", ".join(p) for p in _ports(unit))
    features = {f.lstrip("+") for f in unit.target.features.split(",")}
    tests = "".join(
        f'    if (!__builtin_cpu_supports("{f}"))\n        return {upper}_CPU;\n'
        for f in CPU_FEATURES
        if f in features
    )
    prepare = "    __builtin_cpu_init();\n" if tests else ""
    messages = ",\n        ".join(_c_string(text) for _, text in STATUSES)
    known = ", ".join([*(_c_string(n) for n, _ in unit.entry.symbols), "NULL"])
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

PUBLIC {name}_status {name}_run({name}_model *m, {size_parameters}const void *const *inputs,
                                void *const *outputs) {{
    const int64_t sizes[] = {{{sizes}}};
    return ({name}_status)library_run(&m->inner, sizes, inputs, outputs);
}}

PUBLIC {name}_status {name}_predict({_predict_parameters(unit)}) {{
    const void *const library_inputs[] = {{{inputs}}};
    void *const library_outputs[] = {{{outputs}}};
    return {name}_run(m, {"".join(f"{s}, " for s in _sizes(unit))}library_inputs, library_outputs);
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
    names = ", ".join([*(_c_string(p.name) for p in ports), "NULL"])
    dtypes = ", ".join([*(f"{upper}_{p.spec.dtype.name.upper()}" for p in ports), "0"])
    ranks = ", ".join([*(str(len(p.spec.shape)) for p in ports), "0"])
    cases = []
    for number, port in enumerate(ports):
        fills = "".join(
            f"        shape[{axis}] = {_c_form(unit, form)};\n"
            for axis, form in enumerate(port.spec.shape)
        )
        cases.append(f"    case {number}:\n{fills}        break;\n")
    sizes = ", ".join([*_sizes(unit), "0"])
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

PUBLIC {name}_status {name}_{kind}_shape(int number, {_size_parameters(unit)}int64_t *shape) {{
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


def _c_string(text: str) -> str:
    """A C string literal."""
    escaped = "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{escaped}"'


def example_text(unit: Unit) -> str:
    """example.c: runs the model on files of raw numbers, or on zeros, and prints what comes out."""
    name, upper = unit.name, unit.name.upper()
    sizes = "".join(
        f"    const int64_t {s} = {v};\n"
        for s, (_, v) in zip(_sizes(unit), unit.entry.symbols, strict=True)
    )
    passed = "".join(f"{s}, " for s in _sizes(unit))
    inputs, outputs = ([f"{p}_data" for p in ports] for ports in _ports(unit))
    allocate = "".join(
        f"    {name}_{kind}_shape({i}, {passed}shape);\n"
        f"    {C_TYPES[n.spec.dtype.name]} *{p} =\n"
        f"        calloc(count({name}_{kind}_rank({i}), shape) + 1, sizeof *{p});\n"
        for kind, ports, names in (
            ("input", unit.entry.inputs, inputs),
            ("output", unit.entry.outputs, outputs),
        )
        for i, (n, p) in enumerate(zip(ports, names, strict=True))
    )
    reads = "".join(
        f"    {name}_input_shape({i}, {passed}shape);\n"
        f"    if (argc > {i + 1} && !read_file(argv[{i + 1}], {p},\n"
        f"                               count({name}_input_rank({i}), shape) * sizeof *{p}))\n"
        f"        return 1;\n"
        for i, p in enumerate(inputs)
    )
    prints = "".join(
        f"    {name}_output_shape({i}, {passed}shape);\n"
        f'    printf("%s:", {name}_output_name({i}));\n'
        f"    for (size_t k = 0; k < count({name}_output_rank({i}), shape) && k < 16; k++)\n"
        f'        printf(" %.9g", (double){p}[k]);\n'
        f'    printf("\\n");\n'
        for i, p in enumerate(outputs)
    )
    frees = "".join(f"    free({p});\n" for p in (*inputs, *outputs))
    missing = " || ".join(f"!{p}" for p in (*inputs, *outputs))
    arguments = ", ".join((*inputs, *outputs))
    files = " ".join(f"[{i.name}.bin" for i in unit.entry.inputs) + "]" * len(inputs)
    return f"""\
/* Runs {name} on raw numbers read from files (zeros where none is given) and prints the outputs.
 *
 *   cc example.c -I. -L. -l{name} -Wl,-rpath,'$ORIGIN' -o example
 *   ./example {files}
 */
#include "{name}.h"

#include <stdio.h>
#include <stdlib.h>

static size_t count(int rank, const int64_t *shape) {{
    size_t elements = 1;
    for (int i = 0; i < rank; i++)
        elements *= (size_t)shape[i];
    return elements;
}}

static int read_file(const char *path, void *data, size_t bytes) {{
    FILE *file = fopen(path, "rb");
    size_t read = file ? fread(data, 1, bytes, file) : 0;
    if (file)
        fclose(file);
    if (read != bytes)
        fprintf(stderr, "%s: %zu bytes are needed\\n", path, bytes);
    return read == bytes;
}}

int main(int argc, char **argv) {{
    int64_t shape[16];
{sizes}{allocate}    if ({missing})
        return 1;
{reads}    {name}_model *m = {name}_open();
    if (!m) {{
        fprintf(stderr, "{name}: %s\\n", {name}_message({name}_check() ? {name}_check() : {upper}_MEMORY));
        return 1;
    }}
    {name}_status status = {name}_predict(m, {passed}{arguments});
    {name}_close(m);
    if (status != {upper}_OK) {{
        fprintf(stderr, "{name}: %s\\n", {name}_message(status));
        return 1;
    }}
{prints}{frees}    return 0;
}}
"""
