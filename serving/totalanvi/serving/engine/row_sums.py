"""Sums of weighted rows that stay in registers until the last row is added, for compiled loops to call.

A loop over columns, as numba compiles it, loads and stores the sums again and again. Here a strip of columns has a
register for every 16 of them; each row is read once, from its beginning to its end. What is a register on the widest
CPUs is two or four on others: LLVM sees to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["COLUMNS", "summing_rows"]

COLUMNS = 16
"""In a register: numbers in single precision."""


def summing_rows(n_registers: int) -> Callable[..., None]:
    """Return what adds up rows over a strip of so many registers' columns, for functions that numba compiles.

    ``add(indices, values, begin, end, weight, column, total, row)`` adds ``Σ values[k] · weight[indices[k]]`` for k
    from ``begin``, before ``end``, to ``total[row]``, in the columns that begin with ``column``. The sum is taken in
    single precision, one row after the other; ``total`` is in double precision. Weights are in single precision, or in
    pairs (`totalanvi.serving.engine.paired_columns`). There is at least one k, and nothing is checked.

    Parameters
    ----------
    n_registers
        Columns of the strip, in sixteens; an even number of them for pairs.

    Examples
    --------
    >>> add = summing_rows(4)
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    number, long = ir.IntType(32), ir.IntType(64)
    singles, doubles = ir.VectorType(ir.FloatType(), COLUMNS), ir.VectorType(ir.DoubleType(), COLUMNS)
    numbers = ir.VectorType(number, COLUMNS)

    def everywhere(value: int) -> Any:
        return ir.Constant(numbers, [value] * COLUMNS)

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Any:
            return context.make_array(signature.args[place])(context, build, arguments[place])

        def width(of: Any) -> Any:
            return build.extract_value(of.shape, 1)

        def registers(first: Any, kind: Any, n: int) -> list[Any]:
            steps = (ir.Constant(long, COLUMNS * step) for step in range(n))
            return [build.bitcast(build.gep(first, [step]), kind.as_pointer()) for step in steps]

        def of_pair(place: Any) -> list[Any]:
            pair = build.load(place, align=4)
            halves = build.shl(pair, everywhere(16)), build.and_(pair, everywhere(0xFFFF0000))
            return [build.bitcast(half, singles) for half in halves]

        def terms(line: Any) -> list[Any]:
            if not paired:
                first = build.gep(line, [column])
                return [build.load(place, align=4) for place in registers(first, singles, n_registers)]
            first = build.gep(line, [build.lshr(column, ir.Constant(long, 1))])
            return [half for place in registers(first, numbers, n_registers // 2) for half in of_pair(place)]

        indices, values, weight, total = (array(place) for place in (0, 1, 4, 6))
        begin, end, column, row = (arguments[place] for place in (2, 3, 5, 7))
        paired, nothing = signature.args[4].dtype == types.uint32, ir.Constant(singles, ir.Undefined)
        kind = ir.FunctionType(singles, [singles] * 3)
        multiply_add = build.module.declare_intrinsic(f"llvm.fmuladd.v{COLUMNS}f32", (), kind)

        before, loop, after = build.block, build.append_basic_block("rows"), build.append_basic_block("summed")
        build.branch(loop)
        build.position_at_end(loop)
        k, sums = build.phi(long), [build.phi(singles) for _ in range(n_registers)]
        value = build.insert_element(nothing, build.load(build.gep(values.data, [k])), ir.Constant(number, 0))
        factor = build.shuffle_vector(value, nothing, everywhere(0))
        index = build.zext(build.load(build.gep(indices.data, [k])), long)
        line = build.gep(weight.data, [build.mul(index, width(weight))])
        added = [
            build.call(multiply_add, [factor, term, so_far]) for term, so_far in zip(terms(line), sums, strict=True)
        ]
        following = build.add(k, ir.Constant(long, 1))
        k.add_incoming(begin, before)
        k.add_incoming(following, loop)
        for so_far, summed in zip(sums, added, strict=True):
            so_far.add_incoming(ir.Constant(singles, None), before)
            so_far.add_incoming(summed, loop)
        build.cbranch(build.icmp_signed("<", following, end), loop, after)

        build.position_at_end(after)
        first = build.gep(total.data, [build.add(build.mul(row, width(total)), column)])
        for place, summed in zip(registers(first, doubles, n_registers), added, strict=True):
            more = build.fpext(summed, doubles)
            build.store(build.fadd(build.load(place, align=8), more), place, align=8)
        return context.get_dummy_value()

    def add(
        _: Any, indices: Any, values: Any, begin: Any, end: Any, weight: Any, column: Any, total: Any, row: Any
    ) -> Any:
        return types.void(indices, values, begin, end, weight, column, total, row), generate

    added_up: Callable[..., None] = intrinsic(add)
    return added_up
