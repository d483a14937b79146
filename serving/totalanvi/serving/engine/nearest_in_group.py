"""The nearest points of a group, among the nearest of other groups, for compiled loops to call.

Squared distances stay in registers, and so do the smallest ones so far, in order. To put one into its place, each place
takes ``max(the one before, min(it, its own))``: all places at once, in a few registers, instead of one after the other
in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["GROUP", "keeping_nearest"]

GROUP = 64
"""Points in a group."""

_LANES = 16
"""In a register: numbers in single precision."""

_PLACES = 8
"""In a register: keys of eight bytes."""


def keeping_nearest(n_kept: int) -> Callable[..., int]:
    """Return what keeps the keys of so many points, the nearest ones, for functions that numba compiles.

    ``keep(cells, row, groups, members, group, keys)`` looks at the points of a group, for one cell. Arrays are
    ``cells``, (cells, dimensions), and ``groups``, (groups, dimensions, `GROUP`), in single precision, ``members``,
    (groups, `GROUP`), int32, not negative, and ``keys``, (n_kept,), int64, ascending, as they stay. A key has the bits
    of a squared distance in its upper half, which are in the order of the distances, and a member in its lower one.
    The bits of the last key are returned: a point that is farther need not be looked at. Nothing is checked.

    Parameters
    ----------
    n_kept
        Keys, a multiple of eight.

    Examples
    --------
    >>> keep = keeping_nearest(24)
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    bit, number, long, single = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
    places, strip, mask = ir.VectorType(long, _PLACES), ir.VectorType(single, _LANES), ir.IntType(GROUP)
    n_strips = GROUP // _LANES

    def pick(*chosen: int) -> Any:
        return ir.Constant(ir.VectorType(number, len(chosen)), list(chosen))

    one_up = pick(_PLACES - 1, *range(_PLACES, 2 * _PLACES - 1))

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        def array(place: int) -> Any:
            return context.make_array(signature.args[place])(context, build, arguments[place])

        def everywhere(value: Any, kind: Any) -> Any:
            nothing = ir.Constant(kind, ir.Undefined)
            first = build.insert_element(nothing, value, ir.Constant(number, 0))
            return build.shuffle_vector(first, nothing, pick(*[0] * kind.count))

        def smaller(one: Any, other: Any, *, larger: bool = False) -> Any:
            return build.select(build.icmp_signed(">" if larger else "<", one, other), one, other)

        def put(key: Any, kept: list[Any]) -> list[Any]:
            keys = everywhere(key, places)
            before = [ir.Constant(places, [-1] * _PLACES), *kept[:-1]]  # below all keys
            shifted = [build.shuffle_vector(low, own, one_up) for low, own in zip(before, kept, strict=True)]
            own = [smaller(keys, each) for each in kept]
            return [smaller(low, high, larger=True) for low, high in zip(shifted, own, strict=True)]

        def upper_of_last(kept: list[Any]) -> Any:
            last = build.extract_element(kept[-1], ir.Constant(number, _PLACES - 1))
            return build.trunc(build.lshr(last, ir.Constant(long, 32)), number)

        cells, groups, members, keys = (array(place) for place in (0, 2, 3, 5))
        row, group = arguments[1], arguments[4]
        n_columns, n_dimensions = build.extract_value(cells.shape, 1), build.extract_value(groups.shape, 1)
        cell = build.gep(cells.data, [build.mul(row, n_columns)])
        size = ir.Constant(long, GROUP)
        points = build.gep(groups.data, [build.mul(build.mul(group, n_dimensions), size)])
        chosen = build.gep(members.data, [build.mul(group, size)])
        homes = [
            build.bitcast(build.gep(keys.data, [ir.Constant(long, start)]), places.as_pointer())
            for start in range(0, n_kept, _PLACES)
        ]
        kind = ir.FunctionType(strip, [strip] * 3)
        multiply_add = build.module.declare_intrinsic(f"llvm.fmuladd.v{_LANES}f32", (), kind)
        # In the function's first block: room is made once.
        with build.goto_entry_block():
            squares = build.alloca(number, GROUP)

        before, distances, measured = (
            build.block,
            build.append_basic_block("distances"),
            build.append_basic_block("measured"),
        )
        found, after = build.append_basic_block("found"), build.append_basic_block("kept")
        build.branch(distances)

        build.position_at_end(distances)
        d, sums = build.phi(long), [build.phi(strip) for _ in range(n_strips)]
        x = everywhere(build.load(build.gep(cell, [d])), strip)
        line = build.gep(points, [build.mul(d, size)])
        added = []
        for step, so_far in enumerate(sums):
            place = build.bitcast(build.gep(line, [ir.Constant(long, step * _LANES)]), strip.as_pointer())
            off = build.fsub(build.load(place, align=4), x)
            added.append(build.call(multiply_add, [off, off, so_far]))
        following = build.add(d, ir.Constant(long, 1))
        d.add_incoming(ir.Constant(long, 0), before)
        d.add_incoming(following, distances)
        for so_far, summed in zip(sums, added, strict=True):
            so_far.add_incoming(ir.Constant(strip, None), before)
            so_far.add_incoming(summed, distances)
        build.cbranch(build.icmp_signed("<", following, n_dimensions), distances, measured)

        # Which points are near enough?
        build.position_at_end(measured)
        first = [build.load(home, align=8) for home in homes]
        limit = everywhere(upper_of_last(first), ir.VectorType(number, _LANES))
        near: Any = ir.Constant(mask, 0)
        for step, summed in enumerate(added):
            bits = build.bitcast(summed, ir.VectorType(number, _LANES))
            start = build.gep(squares, [ir.Constant(long, step * _LANES)])
            build.store(bits, build.bitcast(start, bits.type.as_pointer()), align=4)
            nearer = build.bitcast(build.icmp_signed("<", bits, limit), ir.IntType(_LANES))
            near = build.or_(near, build.shl(build.zext(nearer, mask), ir.Constant(mask, step * _LANES)))
        build.cbranch(build.icmp_unsigned("!=", near, ir.Constant(mask, 0)), found, after)

        # One of them after the other. A key that has become too high meanwhile falls off the end.
        build.position_at_end(found)
        left, keeping = build.phi(mask), [build.phi(places) for _ in first]
        at = build.cttz(left, ir.Constant(bit, 1))
        high = build.zext(build.load(build.gep(squares, [at])), long)
        low = build.zext(build.load(build.gep(chosen, [at])), long)
        put_in = put(build.or_(build.shl(high, ir.Constant(long, 32)), low), keeping)
        others = build.and_(left, build.sub(left, ir.Constant(mask, 1)))
        left.add_incoming(near, measured)
        left.add_incoming(others, found)
        for each, initial, result in zip(keeping, first, put_in, strict=True):
            each.add_incoming(initial, measured)
            each.add_incoming(result, found)
        build.cbranch(build.icmp_unsigned("!=", others, ir.Constant(mask, 0)), found, after)

        build.position_at_end(after)
        so_far = [build.phi(places) for _ in first]
        for each, initial, result in zip(so_far, first, put_in, strict=True):
            each.add_incoming(initial, measured)
            each.add_incoming(result, found)
        for each, home in zip(so_far, homes, strict=True):
            build.store(each, home, align=8)
        return upper_of_last(so_far)

    def keep(_: Any, cells: Any, row: Any, groups: Any, members: Any, group: Any, keys: Any) -> Any:
        return types.int32(cells, row, groups, members, group, keys), generate

    kept: Callable[..., int] = intrinsic(keep)
    return kept
