#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Write the operators of the installed `onnx` wheel, all versions, as the table that the importer checks nodes against.

    schemas.py > frontend/src/schemas.txt

A line is an operator at a version: domain, name, version, fewest and most inputs (`*` is any number), then inputs, attributes and types, parted
by `|`.
An input is `name:type`, followed by `?` where it may be left out, `*` where it may be repeated with the same type and `~` with any; a type is
a letter of the line's types. An attribute is `name:kind`, followed by `!` where it must be given. A type is `letter=mask`: bit `n` of
the mask, which is hexadecimal, is dtype `n` of onnx.TensorProto, and bit 63 whatever is no tensor.
"""
import re

import onnx
from onnx import defs

KINDS = {"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "FLOATS": "F", "INTS": "I", "STRINGS": "S", "SPARSE_TENSOR": "x", "TYPE_PROTO": "p"}
MARKS = {"Single": "", "Optional": "?", "Variadic": "*"}


def number(name):
    """Dtype number of a type string's element, e.g. of `float`."""
    return onnx.TensorProto.DataType.Value({"double": "DOUBLE"}.get(name, name.upper()))


def mask(types):
    bits = 0
    for t in types:
        tensor = re.fullmatch(r"tensor\((\w+)\)", t)
        bits |= 1 << (number(tensor[1]) if tensor else 63)
    return bits


def line(s):
    allowed = {t.type_param_str: mask(t.allowed_type_strs) for t in s.type_constraints}
    letters, inputs = {}, []
    for i in s.inputs:
        letter = letters.setdefault(i.type_str, chr(ord("a") + len(letters)))
        mark = MARKS[i.option.name]
        inputs.append(f"{i.name}:{letter}{'~' if mark == '*' and not i.is_homogeneous else mark}")
    attrs = [f"{a.name}:{KINDS[a.type.name]}{'!' if a.required else ''}" for a in sorted(s.attributes.values(), key=lambda a: a.name)]
    types = [f"{letter}={allowed[t] if t in allowed else mask([t]):x}" for t, letter in letters.items()]
    return f"{s.domain or 'ai.onnx'} {s.name} {s.since_version} {s.min_input} {s.max_input if s.max_input < 2**31 - 1 else '*'} | {' '.join(inputs)} | {' '.join(attrs)} | {' '.join(types)}"


schemas = [s for s in defs.get_all_schemas_with_history() if not s.deprecated]
print(f"# Written by tools/schemas.py from onnx {onnx.__version__}.")
for s in sorted(schemas, key=lambda s: (s.domain, s.name, s.since_version)):
    print(line(s))
