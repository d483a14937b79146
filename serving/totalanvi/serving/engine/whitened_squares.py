"""Squares of what a matrix makes of a cell, some rows of it at a time, for compiled loops to call.

A register has a number for each of these rows: it takes one column after the other, weighted by a feature of the cell,
and is never written to memory. There are several registers in turn, since each waits for its own last sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ROWS", "squaring"]

ROWS = 16
"""Of the matrix, in a register: numbers in single precision."""

_IN_TURN = 4
"""Registers: with one, a search for labels took a third longer."""


def squaring() -> Callable[..., float]:
    """Return what adds up the squares of some rows, for functions that numba compiles.

    ``square(cells, row, means, mean, columns, start, n_columns)`` is ``Σ_i (Σ_j columns[start + j, i] ·
    (cells[row, j] − means[mean, j]))²`` for j below ``n_columns``, a multiple of `ROWS` as the width of ``cells`` and
    ``means`` is. ``columns`` is (columns, `ROWS`); all are in single precision, as the inner sum is. The squares and
    their sum are in double precision, so that they do not overflow where it does not. Nothing is checked.

    Examples
    --------
    >>> square = squaring()
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    number, long, single = ir.IntType(32), ir.IntType(64), ir.FloatType()
    singles, doubles = ir.VectorType(single, ROWS), ir.VectorType(ir.DoubleType(), ROWS)

    def lanes(chosen: Any) -> Any:
        return ir.Constant(ir.VectorType(number, len(chosen)), list(chosen))

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Any:
            return context.make_array(signature.args[place])(context, build, arguments[place])

        def line(first: Any, place: Any) -> Any:
            return build.load(build.bitcast(build.gep(first, [place]), singles.as_pointer()), align=4)

        cells, means, columns = (array(place) for place in (0, 2, 4))
        row, mean, start, n_columns = (arguments[place] for place in (1, 3, 5, 6))
        width, size, nothing = build.extract_value(cells.shape, 1), ir.Constant(long, ROWS), ir.Constant(singles, None)
        cell = build.gep(cells.data, [build.mul(row, width)])
        centre = build.gep(means.data, [build.mul(mean, width)])
        first = build.gep(columns.data, [build.mul(start, size)])
        kind = ir.FunctionType(singles, [singles] * 3)
        multiply_add = build.module.declare_intrinsic(f"llvm.fmuladd.v{ROWS}f32", (), kind)
        # In the function's first block: room is made once.
        with build.goto_entry_block():
            off = build.alloca(single, ROWS)

        before, loop, after = build.block, build.append_basic_block("columns"), build.append_basic_block("whitened")
        build.branch(loop)
        build.position_at_end(loop)
        j, sums = build.phi(long), [build.phi(singles) for _ in range(_IN_TURN)]
        # From memory, a load puts a number into all places at once.
        build.store(build.fsub(line(cell, j), line(centre, j)), build.bitcast(off, singles.as_pointer()), align=4)
        weights, added = build.gep(first, [build.mul(j, size)]), list(sums)
        for step in range(ROWS):
            value = build.load(build.gep(off, [ir.Constant(long, step)]))
            alone = build.insert_element(nothing, value, ir.Constant(number, 0))
            factor = build.shuffle_vector(alone, nothing, lanes([0] * ROWS))
            terms = line(weights, ir.Constant(long, step * ROWS))
            added[step % _IN_TURN] = build.call(multiply_add, [factor, terms, added[step % _IN_TURN]])
        following = build.add(j, size)
        j.add_incoming(ir.Constant(long, 0), before)
        j.add_incoming(following, loop)
        for so_far, summed in zip(sums, added, strict=True):
            so_far.add_incoming(nothing, before)
            so_far.add_incoming(summed, loop)
        build.cbranch(build.icmp_signed("<", following, n_columns), loop, after)

        build.position_at_end(after)
        while len(added) > 1:
            added = [build.fadd(one, other) for one, other in zip(added[::2], added[1::2], strict=True)]
        whitened = build.fpext(added[0], doubles)
        squares, n_left = build.fmul(whitened, whitened), ROWS
        while n_left > 1:
            n_left //= 2
            halves = (lanes(range(begin, begin + n_left)) for begin in (0, n_left))
            squares = build.fadd(*(build.shuffle_vector(squares, squares, half) for half in halves))
        return build.extract_element(squares, ir.Constant(number, 0))

    def square(_: Any, cells: Any, row: Any, means: Any, mean: Any, columns: Any, start: Any, n_columns: Any) -> Any:
        return types.float64(cells, row, means, mean, columns, start, n_columns), generate

    squared: Callable[..., float] = intrinsic(square)
    return squared
