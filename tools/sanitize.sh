#!/usr/bin/env bash
# Runs a command with the native modules built for the address and undefined-behaviour sanitizers, in a
# copy of the package apart from the one in use. Only what changed is compiled again.
#
# Usage: tools/sanitize.sh COMMAND...     e.g. tools/sanitize.sh python -m pytest tests/unit/runtime
# In the command `python` is that of the environment; it runs in the copy, which is gone afterwards.
# Reads: VENV (default .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$PWD/${VENV:-.venv}
export PATH="$venv/bin:$PATH" # cmake and ninja may be there only
build=$PWD/build/native-sanitized
mkdir -p "$build"
copy=$(mktemp -d "$PWD/build/sanitized.XXXXXX")
trap 'rm -rf "$copy"' EXIT
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1"

# The package without its modules; links, so that what is run is what is in the tree.
cp -rs "$PWD/rabbet" "$PWD/tests" "$copy"
ln -sf "$PWD/pyproject.toml" "$copy/pyproject.toml"
find "$copy/rabbet" \( -name '*.so' -o -name __pycache__ \) -prune -exec rm -rf {} +

exec {lock}>"$build/lock"
flock "$lock" # one builds, the others wait
cmake -S . -B "$build" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
    -DPython_EXECUTABLE="$venv/bin/python" -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" \
    -DCMAKE_SHARED_LINKER_FLAGS="$flags" -DCMAKE_MODULE_LINKER_FLAGS="$flags" >&2
cmake --build "$build" >&2
cmake --install "$build" --prefix "$copy" >/dev/null
exec {lock}>&-

# Python itself was built without sanitizers, so their library must be there before it starts; it leaks
# on purpose at its end, and hides errors behind an allocator of its own.
preload=$("${CC:-cc}" -print-file-name=libasan.so):$("${CXX:-c++}" -print-file-name=libstdc++.so.6)
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 RABBET_CACHE_DIR="$build/cache"
# An editable installation finds the package by a finder of its own, before any path.
cat >"$copy/sitecustomize.py" <<'PYTHON'
import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
PYTHON
export PYTHONPATH="$copy"
cd "$copy"
env LD_PRELOAD="$preload" "$@"
