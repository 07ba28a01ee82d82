#!/usr/bin/env bash
# Builds the native modules into the source tree (rabbet/*/_*.so), warnings as errors. A second call only
# compiles what changed. For developers; users get the modules from the wheel.
#
# Usage: tools/build_native.sh [Release|Debug]
# Reads: VENV (default .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-Release}
venv=$PWD/${VENV:-.venv}
export PATH="$venv/bin:$PATH" # cmake and ninja may be there only
build=build/native-$kind

cmake -S . -B "$build" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE="$kind" \
    -DPython_EXECUTABLE="$venv/bin/python" -DRABBET_IN_PLACE=ON -DRABBET_WERROR=ON
cmake --build "$build"
