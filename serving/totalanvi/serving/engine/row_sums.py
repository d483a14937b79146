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
    from ``begin``, before ``end``, to ``total[row]``, in the columns that begin with ``column``; where ``indices`` is a
    number, ``Σ values[k] · weight[indices + k]``. The sum is taken in the precision of ``values``, one row after the
    other; ``total`` is in double precision. There is at least one k, and nothing is checked.

    Parameters
    ----------
    n_registers
        Columns of the strip, in sixteens.

    Examples
    --------
    >>> add = summing_rows(4)
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    long = ir.IntType(64)
    singles, doubles = ir.VectorType(ir.FloatType(), COLUMNS), ir.VectorType(ir.DoubleType(), COLUMNS)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), [0] * COLUMNS)

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Any:
            return context.make_array(signature.args[place])(context, build, arguments[place])

        def registers(first: Any, kind: Any) -> list[Any]:
            steps = (ir.Constant(long, COLUMNS * step) for step in range(n_registers))
            return [build.bitcast(build.gep(first, [step]), kind.as_pointer()) for step in steps]

        values, weight, total = (array(place) for place in (1, 4, 6))
        begin, end, column, row = (arguments[place] for place in (2, 3, 5, 7))
        numbers, letters = (singles, "f32") if signature.args[1].dtype == types.float32 else (doubles, "f64")
        nothing, width = ir.Constant(numbers, ir.Undefined), build.extract_value(weight.shape, 1)
        kind = ir.FunctionType(numbers, [numbers] * 3)
        multiply_add = build.module.declare_intrinsic(f"llvm.fmuladd.v{COLUMNS}{letters}", (), kind)

        before, loop, after = build.block, build.append_basic_block("rows"), build.append_basic_block("summed")
        build.branch(loop)
        build.position_at_end(loop)
        k, sums = build.phi(long), [build.phi(numbers) for _ in range(n_registers)]
        value = build.insert_element(nothing, build.load(build.gep(values.data, [k])), ir.Constant(ir.IntType(32), 0))
        factor = build.shuffle_vector(value, nothing, everywhere)
        if isinstance(signature.args[0], types.Array):
            index = build.zext(build.load(build.gep(array(0).data, [k])), long)
        else:
            index = build.add(arguments[0], k)
        terms = registers(build.gep(weight.data, [build.add(build.mul(index, width), column)]), numbers)
        added = [
            build.call(multiply_add, [factor, build.load(term, align=4), so_far])
            for term, so_far in zip(terms, sums, strict=True)
        ]
        following = build.add(k, ir.Constant(long, 1))
        k.add_incoming(begin, before)
        k.add_incoming(following, loop)
        for so_far, summed in zip(sums, added, strict=True):
            so_far.add_incoming(ir.Constant(numbers, None), before)
            so_far.add_incoming(summed, loop)
        build.cbranch(build.icmp_signed("<", following, end), loop, after)

        build.position_at_end(after)
        first = build.gep(total.data, [build.add(build.mul(row, width), column)])
        for place, summed in zip(registers(first, doubles), added, strict=True):
            more = build.fpext(summed, doubles) if numbers is singles else summed
            build.store(build.fadd(build.load(place, align=8), more), place, align=8)
        return context.get_dummy_value()

    def add(
        _: Any, indices: Any, values: Any, begin: Any, end: Any, weight: Any, column: Any, total: Any, row: Any
    ) -> Any:
        return types.void(indices, values, begin, end, weight, column, total, row), generate

    added_up: Callable[..., None] = intrinsic(add)
    return added_up
