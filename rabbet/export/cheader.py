"""NAME.h and example.c of a native library."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rabbet.export.cnames import (
    C_TYPES,
    STATUSES,
    Unit,
    port_names,
    predict_parameters,
    size_names,
    size_parameters,
)
from rabbet.export.portable import Named, show_form

EXAMPLE_FUNCTIONS = """\
static size_t count(int rank, const int64_t *shape) {
    size_t elements = 1;
    for (int i = 0; i < rank; i++)
        elements *= (size_t)shape[i];
    return elements;
}

static int read_file(const char *path, void *data, size_t bytes) {
    FILE *file = fopen(path, "rb");
    size_t read = file ? fread(data, 1, bytes, file) : 0;
    if (file)
        fclose(file);
    if (read != bytes)
        fprintf(stderr, "%s: %zu bytes are needed\\n", path, bytes);
    return read == bytes;
}

"""


def _comment(text: str) -> str:
    """Text from a file, safe inside a C comment."""
    return re.sub(r"[^\w.\[\], +*-]", "_", text, flags=re.ASCII)


def _described(ports: Sequence[Named]) -> str:
    return "\n".join(
        f" *   {_comment(p.name)}: {p.spec.dtype.name}"
        f"[{_comment(', '.join(show_form(d) for d in p.spec.shape))}]"
        for p in ports
    )


def header_text(unit: Unit) -> str:
    """NAME.h: every declaration with what a caller must know."""
    name, upper = unit.name, unit.name.upper()
    statuses = "\n".join(
        f"    {upper}_{s} = {i}, /* {text} */" for i, (s, text) in enumerate(STATUSES)
    )
    dtypes = "\n".join(f"    {upper}_{d.upper()} = {i}," for i, d in enumerate(C_TYPES))
    guards = "".join(
        f"\n * Sizes must satisfy: {_comment(show_form(f))} {r} 0." for r, f in unit.entry.guards
    )
    return f"""\
/* {name}: a model as a library. It needs nothing but the C library, and its weights are inside.
 *
 * Inputs, as arrays in row-major order without gaps:
{_described(unit.entry.inputs)}
 * Outputs, in memory of the caller's:
{_described(unit.entry.outputs)}
 *
 * Threads: an open model may be used by several threads at once; each call may itself use several
 * threads (RABBET_NUM_THREADS sets how many). Results do not depend on the number of threads.
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

{_declarations(unit)}"""


def _declarations(unit: Unit) -> str:
    name, upper, sizes = unit.name, unit.name.upper(), size_parameters(unit)
    return f"""\
/* {upper}_OK, or {upper}_CPU where this machine cannot run the library; {name}_open then returns
 * NULL. */
{name}_status {name}_check(void);

/* A model ready to run; NULL if there is no memory or the CPU is the wrong one. */
{name}_model *{name}_open(void);

/* Runs the model: inputs in order, then outputs. */
{name}_status {name}_predict({predict_parameters(unit)});

/* The same with arrays of pointers. */
{name}_status {name}_run({name}_model *m, {sizes}const void *const *inputs, void *const *outputs);

/* What a status means, in words. Never NULL. */
const char *{name}_message({name}_status status);

/* Frees the model; NULL is allowed. No call may be using it. */
void {name}_close({name}_model *m);

/* What goes in and comes out. Numbers out of range give 0, NULL or {upper}_ARGUMENT. The shape
 * functions fill `shape` with as many sizes as the rank says. */
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


def example_text(unit: Unit) -> str:
    """example.c: runs the model on files of raw numbers, or on zeros, and prints what comes out."""
    name, upper = unit.name, unit.name.upper()
    sizes = "".join(
        f"    const int64_t {s} = {v};\n"
        for s, (_, v) in zip(size_names(unit), unit.entry.symbols, strict=True)
    )
    passed = "".join(f"{s}, " for s in size_names(unit))
    inputs, outputs = ([f"{p}_data" for p in ports] for ports in port_names(unit))
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

{EXAMPLE_FUNCTIONS}int main(int argc, char **argv) {{
    int64_t shape[16];
{sizes}{allocate}    if ({missing})
        return 1;
{reads}    {name}_model *m = {name}_open();
    if (!m) {{
        {name}_status why = {name}_check() == {upper}_OK ? {upper}_MEMORY : {upper}_CPU;
        fprintf(stderr, "{name}: %s\\n", {name}_message(why));
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
