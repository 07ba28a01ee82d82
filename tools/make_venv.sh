#!/usr/bin/env bash
# Makes the virtual environment VENV from a machine that has only Python, make and a C/C++ compiler,
# and installs Rabbet into it from this checkout, editable. Says what to install where something is
# missing, all of it at once, and changes nothing then.
#
# Usage: tools/make_venv.sh VENV EXTRAS        e.g. tools/make_venv.sh .venv dev,serve,plot
# Reads: PYTHON (interpreter to use), CC, CXX.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
extras=$2
oldest=3.11

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local name
    # A name on PATH may be a shim for a version that is not there, hence the trial run.
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if is_new_enough "$name"; then
            echo "$name"
            return
        fi
    done
}

# Prints "package<TAB>why" for every Debian package that is needed and not there.
missing_packages() {
    local python=$1 suffix
    suffix=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$(command -v "$python")" != /usr/bin/python3 ] || suffix=3
    # `venv` imports everywhere; Debian leaves out `ensurepip`, without which it cannot add pip.
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        printf 'python%s-venv\tthe venv module is incomplete\n' "$suffix"
    [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        printf 'python%s-dev\tPython.h is needed to build the native parts\n' "$suffix"
    command -v "${CC:-cc}" >/dev/null || printf 'gcc\tthere is no C compiler (%s)\n' "${CC:-cc}"
    command -v "${CXX:-c++}" >/dev/null || printf 'g++\tthere is no C++ compiler (%s)\n' "${CXX:-c++}"
}

python=$(find_python)
if [ -z "$python" ]; then
    tried=${PYTHON:-python3}
    {
        echo "Rabbet needs Python $oldest or newer; $tried is" \
            "$("$tried" --version 2>/dev/null || echo 'not there')."
        echo "Install one (on Debian or Ubuntu: apt install python3 python3-venv python3-dev), or name it:"
        echo "    make PYTHON=/path/to/python3 demo"
    } >&2
    exit 1
fi

if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    missing=$(missing_packages "$python")
    if [ -n "$missing" ]; then
        {
            echo "Something this machine needs is missing:"
            printf '%s\n' "$missing" | sed 's/\t/: /; s/^/    /'
            echo "On Debian or Ubuntu (as root):"
            echo "    apt install $(printf '%s\n' "$missing" | cut -f1 | paste -sd' ')"
            echo "On macOS: xcode-select --install, and a Python from python.org or Homebrew."
        } >&2
        exit 1
    fi
    # An environment left by another Python, or half made, is replaced.
    "$python" -m venv --clear "$venv"
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
echo "Installing Rabbet into $venv ($("$venv/bin/python" --version)) ..."
"${pip[@]}" install --upgrade "scikit-build-core>=1.1" "nanobind>=3.1" "cmake>=3.26" ninja
# Without isolation the build folder keeps its paths, so a second build only compiles what changed.
"${pip[@]}" install --no-build-isolation --config-settings=build-dir=build/editable \
    --editable ".[$extras]"
