"""What the code costs a reader: lines and tokens, printed by `pytest -s tests/test_budget.py`.

Nothing fails because it is long; long things are named, so that somebody looks. What is tested here
is that the figures are right.
"""

import ast
import tokenize
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["rabbet"]["budget"]
COUNTED = {tokenize.OP, tokenize.NAME, tokenize.NUMBER, tokenize.STRING}


@dataclass(frozen=True)
class Cost:
    """Figures of one file; `code_lines` has no blank lines, comments or docstrings."""

    path: str
    lines: int
    code_lines: int
    tokens: int
    functions: tuple[tuple[int, str], ...] = ()

    @property
    def tokens_per_line(self) -> float:
        return self.tokens / max(self.code_lines, 1)


def measure(path: str, text: str) -> Cost:
    tree = ast.parse(text)
    quiet = _docstring_lines(tree)
    code_lines: set[int] = set()
    tokens = 0
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type in COUNTED and token.start[0] not in quiet:
            tokens += 1
            code_lines.update(range(token.start[0], token.end[0] + 1))
    functions = tuple(
        (node.end_lineno - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    )
    return Cost(path, text.count("\n"), len(code_lines), tokens, functions)


def _docstring_lines(tree: ast.Module) -> set[int]:
    quiet: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                quiet.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return quiet


def measure_native(path: str, text: str) -> Cost:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip()[:2] == "//"]
    return Cost(path, text.count("\n"), len(lines), 0)


def measure_package() -> list[Cost]:
    costs = []
    for path in sorted((ROOT / "rabbet").rglob("*.*")):
        if path.suffix == ".py":
            costs.append(measure(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")))
        elif path.suffix in {".c", ".h", ".cpp", ".hpp"}:
            costs.append(measure_native(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")))
    return costs


def write_report(costs: list[Cost]) -> str:
    folders: dict[str, list[Cost]] = defaultdict(list)
    for cost in costs:
        folders["/".join(cost.path.split("/")[:-1])].append(cost)
    lines = [f"{'folder':<28}{'files':>6}{'lines':>8}{'code':>8}{'tokens/line':>13}"]
    for folder, group in sorted(folders.items()):
        code = sum(cost.code_lines for cost in group)
        per_line = sum(cost.tokens for cost in group) / max(code, 1)
        total = sum(cost.lines for cost in group)
        lines.append(f"{folder:<28}{len(group):>6}{total:>8}{code:>8}{per_line:>13.1f}")
    code = sum(cost.code_lines for cost in costs)
    lines.append(f"{'all':<28}{len(costs):>6}{sum(c.lines for c in costs):>8}{code:>8}")
    return "\n".join([*lines, *name_the_long(costs)])


def name_the_long(costs: list[Cost]) -> list[str]:
    """What is over the budget of pyproject.toml, worst first."""
    files = sorted((c for c in costs if c.lines > BUDGET["file_lines"]), key=lambda c: -c.lines)
    functions = sorted((f for cost in costs for f in cost.functions), reverse=True)
    dense = [cost for cost in costs if cost.tokens_per_line > BUDGET["tokens_per_line"]]
    return [
        *(f"long file: {cost.path} has {cost.lines} lines" for cost in files),
        *(
            f"long function: {where} has {length} lines"
            for length, where in functions
            if length > BUDGET["function_lines"]
        ),
        *(f"dense: {cost.path} has {cost.tokens_per_line:.1f} tokens per line" for cost in dense),
    ]


SAMPLE = '''"""Says what it is for,
in two lines."""

# a comment

def double(x):
    """Docstring."""
    return (x +
            x)
'''


def test_comments_blank_lines_and_docstrings_cost_nothing() -> None:
    cost = measure("sample.py", SAMPLE)
    assert (cost.lines, cost.code_lines) == (9, 3)
    assert cost.tokens == len(
        ["def", "double", "(", "x", ")", ":", "return", "(", "x", "+", "x", ")"]
    )
    assert cost.functions == ((4, "sample.py:6 double"),)


def test_what_is_over_the_budget_is_named() -> None:
    body = "\n".join(f"    x{i} = {i}" for i in range(BUDGET["function_lines"] + 1))
    long_function = measure("f.py", f"def f():\n{body}\n")
    long_file = measure("lines.py", "x = 1\n" * (BUDGET["file_lines"] + 1))
    dense = measure("dense.py", "x = [1, 2, 3, 4, 5, 6, 7, 8]\n")
    assert name_the_long([long_function, long_file, dense, measure("s.py", SAMPLE)]) == [
        f"long file: lines.py has {BUDGET['file_lines'] + 1} lines",
        f"long function: f.py:1 f has {BUDGET['function_lines'] + 2} lines",
        "dense: dense.py has 19.0 tokens per line",
    ]


def test_print_the_budget() -> None:
    costs = measure_package()
    report = write_report(costs)
    print("\n" + report)
    assert all(cost.path.rpartition("/")[0] in report for cost in costs)
