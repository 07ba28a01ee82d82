"""Every subcommand of `rabbet`, and how their errors are shown: one line, no traceback."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from rabbet.base.errors import FormatError, RabbetError
from rabbet.cli.tables import inspect_tables
from rabbet.export import build, load_program
from rabbet.export.native import file_names

app = typer.Typer(
    name="rabbet",
    help="Deep learning with one tape: train, export, serve, build.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ProgramPath = Annotated[Path, typer.Argument(help="A program file (.rbt).", metavar="FILE")]
EntryName = Annotated[str | None, typer.Option(help="One of several entries of the file.")]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 for an error said in one line, 2 for wrong usage.

    RABBET_DEBUG=eager shows where an error came from.
    """
    try:
        app(args=arguments, prog_name="rabbet")
    except (RabbetError, OSError) as error:
        if os.environ.get("RABBET_DEBUG"):
            raise
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            "rabbet:", _one_line(error), style="red", markup=False
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    said = error.said if isinstance(error, RabbetError) else str(error)
    return " ".join(said.split())


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rabbet {version()}")
        raise typer.Exit


def version() -> str:
    """The version of this installation; of the source tree where nothing is installed."""
    try:
        return metadata.version("rabbet")
    except metadata.PackageNotFoundError:
        return str(resolve_name("rabbet").__version__)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Deep learning with one tape: train, export, serve, build."""


@app.command()
def inspect(
    path: ProgramPath,
    verify: Annotated[bool, typer.Option(help="Check the weights' hash.")] = False,
) -> None:
    """Show a program file: its entries, shapes, layers, parameters, operations, memory, sizes."""
    program = load_program(path, verify=verify)
    console = Console()
    for name in program.entries:
        for table in inspect_tables(load_program(path, name)):
            console.print(table)


@app.command()
def run(
    path: ProgramPath,
    input: Annotated[
        list[str], typer.Option(help="An input: FILE.npy, or NAME=FILE.npy. Once for each.")
    ] = [],  # noqa: B006  (typer copies it)
    output: Annotated[
        list[str], typer.Option(help="Where an output goes: FILE.npy, or NAME=FILE.npy.")
    ] = [],  # noqa: B006
    entry: EntryName = None,
) -> None:
    """Run a program file on NumPy files; outputs without a file are printed."""
    program = load_program(path, entry)
    given = _by_name(input, [p.name for p in program.inputs], "input")
    wanted = _by_name(output, [p.name for p in program.outputs], "output")
    arrays = {name: _read_array(file) for name, file in given.items()}
    for port in program.inputs:
        if port.name not in arrays:
            raise RabbetError(f"the input {port} is missing: add --input {port.name}=FILE.npy")
    results = program.run([arrays[p.name] for p in program.inputs])
    for port, result in zip(program.outputs, results, strict=True):
        if port.name in wanted:
            np.save(wanted[port.name], np.asarray(result), allow_pickle=False)
        else:
            print(f"{port.name} {result.dtype.name}{list(result.shape)}\n{np.asarray(result)}")


def _by_name(options: list[str], names: list[str], kind: str) -> dict[str, Path]:
    """NAME=FILE options; one without a name stands for the next name not yet given."""
    found: dict[str, Path] = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not equals or name not in names:
            left = [n for n in names if n not in found]
            if equals and not Path(option).exists() and kind == "input" or not left:
                raise RabbetError(f"there is no {kind} {name!r}; there are {', '.join(names)}")
            name, file = left[0], option
        if name in found:
            raise RabbetError(f"the {kind} {name!r} is given twice")
        found[name] = Path(file)
    return found


def _read_array(file: Path) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError):
        raise FormatError(f"{file}: not a NumPy file; numpy.save writes one") from None
    if not isinstance(array, np.ndarray):
        raise RabbetError(f"{file}: one array is needed (.npy), this holds several")
    return array


@app.command("build")
def build_command(
    path: ProgramPath,
    target: Annotated[str, typer.Option(help="What to build for.")] = "native",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder for the files.")
    ] = None,
    cpu: Annotated[
        str | None, typer.Option(help="A target record, such as x86_v3; this machine by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The library's name; the file's by default.")
    ] = None,
    entry: EntryName = None,
) -> None:
    """Make a C library, header and example from a program file."""
    folder = build(path, target, output, cpu=cpu, name=name, entry=entry)
    for file in (folder / made for made in file_names(path, name)):
        print(f"{file}  {file.stat().st_size} bytes")


@app.command()
def serve(
    directory: Annotated[
        Path, typer.Argument(help="Models: DIR/NAME/VERSION/NAME.rbt.", metavar="DIR")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8080,
) -> None:
    """Serve program files over HTTP (Open Inference Protocol)."""
    _call("rabbet.serve:main", directory, host, port, load=load_program, version=version())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's files go.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
) -> None:
    """Train on handwritten digits, then run the model from Python, C and over HTTP."""
    _call("rabbet.demo:main", folder, seed=seed)


@app.command("bench")
def bench_command(
    against: Annotated[str, typer.Option(help="Peers, with commas: torch,jax,tensorflow.")] = "",
    only: Annotated[str, typer.Option(help="Workloads, with commas: gemm*,gpt_train.")] = "",
    model: Annotated[Path | None, typer.Option(help="Time the module in this file.")] = None,
    system: Annotated[bool, typer.Option(help="Import, memory, compiling, disk instead.")] = False,
    quick: Annotated[bool, typer.Option(help="Fewer and shorter rounds.")] = False,
    install: Annotated[bool, typer.Option(help="Make missing peers' environments.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of every framework.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Write everything measured.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a page.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a PNG of the ratios.")] = None,
) -> None:
    """Measure Rabbet beside other frameworks, in turns."""
    names, patterns = ([n for n in text.split(",") if n] for text in (against, only))
    files = {"json_file": json, "markdown": markdown, "picture": picture}
    options = {
        "model": model,
        "system": system,
        "quick": quick,
        "install": install,
        "threads": threads,
    }
    _call("rabbet.bench.command:bench", names, patterns, **options, **files)


def _call(name: str, *args: Any, **kwargs: Any) -> None:
    """Call a function named as in an entry point: `rabbet inspect` need not wait for what serving
    needs.
    """
    resolve_name(name)(*args, **kwargs)
