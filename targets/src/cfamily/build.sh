#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Builds lib/libmodel.so of this bundle for {TARGET}. Exit code 5: the compiler is missing, is too old, or wrote nothing.
# Known to work: {KNOWN}{OBJECT_HELP}
set -u
cd "$(dirname "$0")" || exit 1

# Says what is wrong with a tool, what was found, and what is known to work.
tool_fault() {
  echo "build.sh: $1" >&2
  echo "build.sh: known to work: {KNOWN}" >&2
  exit 5
}

# Runs a command and holds it to the file that it has to write: some drivers print a banner, return 0 and write nothing.
made() {
  out=$1
  shift
  rm -f "$out"
  "$@" || tool_fault "$1 failed for $out${version:+; it says of itself: $version}"
  [ -s "$out" ] || tool_fault "$1 returned 0 and wrote no $out${version:+; it says of itself: $version}"
}

version=

# The vendor's compiler: in the folder that a variable names ({VARIABLES}), where the SDK usually is, or on the search path.
compiler=
sdk=
for folder in {FOLDERS}; do
  [ -n "$folder" ] || continue
  for bin in {BINS}; do
    if [ -z "$compiler" ] && [ -x "$folder/$bin/{COMPILER}" ]; then
      compiler="$folder/$bin/{COMPILER}"
      sdk="$folder"
    fi
  done
done
if [ -z "$compiler" ]; then
  compiler=$(command -v {COMPILER} 2>/dev/null) || compiler=
  [ -n "$compiler" ] && sdk=$(dirname "$(dirname "$compiler")")
fi
{OBJECT}[ -n "$compiler" ] || tool_fault "{COMPILER} is nowhere: {VARIABLES} and the search path have none"

version=$("$compiler" --version 2>&1 | head -n 4 | tr '\n' ' ')
major=$(printf '%s' "$version" | grep -o '[0-9][0-9]*[.][0-9]' | head -n 1 | cut -d . -f 1)
if [ "{LEAST}" -gt 0 ] && [ -n "$major" ] && [ "$major" -lt "{LEAST}" ]; then
  tool_fault "$compiler is too old: {LEAST} is the lowest version, and it says: $version"
fi

cc=${CC:-cc}
command -v "$cc" >/dev/null 2>&1 || tool_fault "no C compiler: $cc (set CC to one)"
mkdir -p build lib || exit 1
made build/plan.o "$cc" -std=gnu11 -O2 -fPIC -fvisibility=hidden -c src/plan.c -o build/plan.o
made build/runtime.o "$cc" -std=gnu11 -O2 -ffreestanding -fPIC -fvisibility=hidden -c src/runtime/runtime.c -o build/runtime.o
made build/kernels.o {COMPILE}
made lib/libmodel.so {LINK}
rm -rf build
echo "built lib/libmodel.so with $compiler"
