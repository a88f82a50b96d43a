"""Additions of short float32 vectors, each as one processor instruction; numba does not combine single additions.

The arrays must be contiguous in memory. Nothing checks the indices.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

LANES: Final = 4  # floats in 16 bytes, which every processor adds at once


def _cell(context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any) -> Any:
    """Pointer to a cell of a matrix."""
    made = context.make_array(kind)(context, builder, array)
    offset = builder.add(builder.mul(row, builder.extract_value(made.shape, 1)), column)
    return builder.gep(made.data, [offset])


def _add(builder: Any, cell: Any, values: Any) -> None:
    target = builder.bitcast(cell, values.type.as_pointer())
    builder.store(builder.fadd(builder.load(target, align=4), values), target, align=4)


def _row_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    into, row, of, from_row = arguments
    kinds, first = signature.args, ir.Constant(ir.IntType(64), 0)
    vector = ir.VectorType(ir.FloatType(), 2 * LANES).as_pointer()
    values = builder.bitcast(_cell(context, builder, kinds[2], of, from_row, first), vector)
    _add(builder, _cell(context, builder, kinds[0], into, row, first), builder.load(values, align=4))
    return context.get_dummy_value()


def _column_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    into, row, column, of, from_column = arguments
    kinds = signature.args
    values = ir.Constant(ir.VectorType(ir.FloatType(), LANES), ir.Undefined)
    for lane in range(LANES):
        number = ir.Constant(ir.IntType(64), lane)
        value = builder.load(_cell(context, builder, kinds[3], of, number, from_column))
        values = builder.insert_element(values, value, ir.Constant(ir.IntType(32), lane))
    _add(builder, _cell(context, builder, kinds[0], into, row, column), values)
    return context.get_dummy_value()


def _typed_row(_: Any, into: Any, row: Any, of: Any, from_row: Any) -> Any:
    return types.void(into, types.intp, of, types.intp), _row_code


def _typed_column(_: Any, into: Any, row: Any, column: Any, of: Any, from_column: Any) -> Any:
    return types.void(into, types.intp, types.intp, of, types.intp), _column_code


# (into [m, 2 LANES], row, of [n, 2 LANES], from_row): into[row] += of[from_row]
add_row: Any = intrinsic(_typed_row)
# (into [m, >= column + LANES], row, column, of [LANES, k], j): into[row, column : column + LANES] += of[:, j]
add_column: Any = intrinsic(_typed_column)
