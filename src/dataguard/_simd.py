"""The few machine operations that numba has no word for: 128-bit products, unaligned loads, prefetch, lanes.

Written as LLVM IR, so that they run on any processor LLVM knows: on a narrower one the
compiler splits a vector, the result stays the same bit for bit. Only ``_kernels.py`` files
import this module, and the plain twin of each operation stands in ``tests/test_simd.py``.
Numba's cache does not see changes here: after an edit, clear it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

__all__ = [
    "any_below",
    "block_has",
    "block_set",
    "load_u32x16",
    "load_word",
    "lower_words",
    "mask_below",
    "mask_equal",
    "mask_equal_u32",
    "mask_within",
    "mul_high",
    "mul_wide",
    "ones",
    "prefetch",
    "splat_u32x16",
    "store_u32x16",
    "trailing_zeros",
    "vadd",
    "vand",
    "vmin",
    "vmul",
    "vor",
    "vshl",
    "vshr",
    "vxor",
    "xxh3_block",
    "xxh3_load",
    "xxh3_store",
    "xxh3_stripe",
]

_U32X16 = ir.VectorType(ir.IntType(32), 16)


def _intrinsic(declare: Callable[..., Any]) -> Any:
    # Any, because what callers see is the function that numba makes of it, without the typing context.
    return intrinsic(declare)


class _Lanes(types.Type):
    """Sixteen uint32 side by side; lives in registers only."""

    def __init__(self) -> None:
        super().__init__(name="u32x16")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _U32X16)


U32X16 = _Lanes()


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, pointee: Any) -> Any:
    """Pointer to element `index` of a contiguous array, seen as `pointee`."""
    base = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(base, [index]), pointee.as_pointer())


@_intrinsic
def mul_high(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the upper 64 bits of the 128-bit product of two uint64."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


@_intrinsic
def mul_wide(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the 128-bit product of two uint64 as two uint64, lower and upper: one multiplication for both."""
    pair = types.UniTuple(types.uint64, 2)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, pair, (builder.trunc(product, word), upper))

    return pair(types.uint64, types.uint64), codegen


@_intrinsic
def trailing_zeros(typingctx: Any, x: Any) -> Any:
    """Return the number of zero bits below the lowest one of a uint64; 64 for 0."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@_intrinsic
def ones(typingctx: Any, x: Any) -> Any:
    """Return the number of one bits of a uint64."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@_intrinsic
def load_word(typingctx: Any, data: Any, at: Any) -> Any:
    """Return the 8 bytes of a uint8 array from index `at` on as a little-endian uint64; no alignment asked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], ir.IntType(64))
        return builder.load(pointer, align=1)

    return types.uint64(data, types.int64), codegen


@_intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]`` without waiting for it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = _address(context, builder, signature.args[0], args[0], args[1], ir.IntType(8))
        name = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, name, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@_intrinsic
def load_u32x16(typingctx: Any, array: Any, at: Any) -> Any:
    """Return 16 elements of a uint32 array from index `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _U32X16)
        return builder.load(pointer, align=4)

    return U32X16(array, types.int64), codegen


@_intrinsic
def store_u32x16(typingctx: Any, array: Any, at: Any, lanes: Any) -> Any:
    """Write 16 elements of a uint32 array from index `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _U32X16)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, U32X16), codegen


def _spread(builder: Any, scalar: Any, kind: Any) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, empty, mask)


@_intrinsic
def splat_u32x16(typingctx: Any, x: Any) -> Any:
    """Return 16 times one uint32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _spread(builder, args[0], _U32X16)

    return U32X16(types.uint32), codegen


def _lanewise(operation: Callable[[Any, Any, Any], Any], purpose: str) -> Any:
    def declare(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return operation(builder, args[0], args[1])

        return U32X16(U32X16, U32X16), codegen

    declare.__doc__ = purpose
    return _intrinsic(declare)


vadd = _lanewise(lambda builder, a, b: builder.add(a, b), "Return a + b modulo 2**32, lane by lane.")
vmul = _lanewise(lambda builder, a, b: builder.mul(a, b), "Return a * b modulo 2**32, lane by lane.")
vor = _lanewise(lambda builder, a, b: builder.or_(a, b), "Return a | b, lane by lane.")
vshr = _lanewise(lambda builder, a, b: builder.lshr(a, b), "Return a >> b, lane by lane; b below 32.")
vshl = _lanewise(lambda builder, a, b: builder.shl(a, b), "Return a << b, lane by lane; b below 32.")
vand = _lanewise(lambda builder, a, b: builder.and_(a, b), "Return a & b, lane by lane.")
vxor = _lanewise(lambda builder, a, b: builder.xor(a, b), "Return a ^ b, lane by lane.")
vmin = _lanewise(
    lambda builder, a, b: builder.select(builder.icmp_unsigned("<", a, b), a, b),
    "Return the smaller of a and b, lane by lane.",
)


@_intrinsic
def any_below(typingctx: Any, array: Any, at: Any, bound: Any) -> Any:
    """Return whether any of 64 elements of a uint64 array from index `at` on is below `bound`."""
    lanes = ir.VectorType(ir.IntType(64), 8)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        least = _spread(builder, args[2], lanes)
        limit = least
        for part in range(8):
            index = builder.add(args[1], ir.Constant(ir.IntType(64), 8 * part))
            pointer = _address(context, builder, signature.args[0], args[0], index, lanes)
            x = builder.load(pointer, align=8)
            least = builder.select(builder.icmp_unsigned("<", x, least), x, least)
        bits = builder.bitcast(builder.icmp_unsigned("<", least, limit), ir.IntType(8))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(8), 0))

    return types.boolean(array, types.int64, types.uint64), codegen


def _mask(context: Any, builder: Any, kind: Any, args: Any, bits: int, comparison: str) -> Any:
    """Bit i: how element ``at + i`` of 64 compares with a bound."""
    count, word = 512 // bits, ir.IntType(64)
    lanes = ir.VectorType(ir.IntType(bits), count)
    limit, mask = _spread(builder, args[2], lanes), ir.Constant(word, 0)
    for part in range(0, 64, count):
        index = builder.add(args[1], ir.Constant(word, part))
        pointer = _address(context, builder, kind, args[0], index, lanes)
        true = builder.icmp_unsigned(comparison, builder.load(pointer, align=bits // 8), limit)
        found = builder.zext(builder.bitcast(true, ir.IntType(count)), word)
        mask = builder.or_(mask, builder.shl(found, ir.Constant(word, part)))
    return mask


@_intrinsic
def mask_below(typingctx: Any, array: Any, at: Any, bound: Any) -> Any:
    """Return 64 bits, bit i for whether element ``at + i`` of a uint64 array is below `bound`, as uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _mask(context, builder, signature.args[0], args, 64, "<")

    return types.uint64(array, types.int64, types.uint64), codegen


@_intrinsic
def mask_equal_u32(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """Return 64 bits, bit i for whether element ``at + i`` of a uint32 array is `value`, as uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _mask(context, builder, signature.args[0], args, 32, "==")

    return types.uint64(array, types.int64, types.uint32), codegen


@_intrinsic
def mask_equal(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """Return 32 bits, bit i for whether element ``at + i`` of a uint16 array equals `value`, as uint64."""
    lanes, word = ir.VectorType(ir.IntType(16), 32), ir.IntType(64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], lanes)
        same = builder.icmp_unsigned("==", builder.load(pointer, align=2), _spread(builder, args[2], lanes))
        return builder.zext(builder.bitcast(same, ir.IntType(32)), word)

    return types.uint64(array, types.int64, types.uint16), codegen


@_intrinsic
def mask_within(typingctx: Any, array: Any, at: Any, low: Any, span: Any) -> Any:
    """Return 8 bits, bit i for whether element ``at + i`` of a uint64 array, less `low`, is below `span`, as uint64."""
    lanes, word = ir.VectorType(ir.IntType(64), 8), ir.IntType(64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], lanes)
        above = builder.sub(builder.load(pointer, align=8), _spread(builder, args[2], lanes))
        true = builder.icmp_unsigned("<", above, _spread(builder, args[3], lanes))
        return builder.zext(builder.bitcast(true, ir.IntType(8)), word)

    return types.uint64(array, types.int64, types.uint64, types.uint64), codegen


_BLOCK = ir.VectorType(ir.IntType(32), 8)
_SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def _block_bits(builder: Any, low: Any) -> Any:
    """One bit in each of eight words, as the Parquet format chooses it for the lower half of a hash."""
    product = builder.mul(_spread(builder, low, _BLOCK), ir.Constant(_BLOCK, list(_SALT)))
    return builder.shl(ir.Constant(_BLOCK, [1] * 8), builder.lshr(product, ir.Constant(_BLOCK, [27] * 8)))


@_intrinsic
def block_set(typingctx: Any, words: Any, at: Any, low: Any) -> Any:
    """Set the bits of the uint32 `low` in the Bloom block of eight uint32 words from index `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _BLOCK)
        block = builder.load(pointer, align=4)
        builder.store(builder.or_(block, _block_bits(builder, args[2])), pointer, align=4)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.uint32), codegen


@_intrinsic
def block_has(typingctx: Any, words: Any, at: Any, low: Any) -> Any:
    """Return 1 when the block at index `at` has all bits of `low`, else 0, as uint8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _BLOCK)
        block = builder.load(pointer, align=4)
        missing = builder.and_(_block_bits(builder, args[2]), builder.not_(block))
        lacks = builder.icmp_unsigned("!=", missing, ir.Constant(_BLOCK, [0] * 8))
        none = builder.icmp_unsigned("==", builder.bitcast(lacks, ir.IntType(8)), ir.IntType(8)(0))
        return builder.zext(none, ir.IntType(8))

    return types.uint8(words, types.int64, types.uint32), codegen


_U64X8 = ir.VectorType(ir.IntType(64), 8)


class _Sums(types.Type):
    """Eight uint64 side by side: the accumulators of XXH3; lives in registers only."""

    def __init__(self) -> None:
        super().__init__(name="u64x8")


@register_model(_Sums)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _U64X8)


U64X8 = _Sums()


@_intrinsic
def xxh3_load(typingctx: Any, array: Any, at: Any) -> Any:
    """Return 8 elements of a uint64 array from index `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _U64X8)
        return builder.load(pointer, align=8)

    return U64X8(array, types.int64), codegen


@_intrinsic
def xxh3_store(typingctx: Any, array: Any, at: Any, sums: Any) -> Any:
    """Write 8 elements of a uint64 array from index `at` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _U64X8)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, U64X8), codegen


def _accumulate(builder: Any, sums: Any, value: Any, key: Any) -> Any:
    """One stripe of XXH3: to each sum its neighbour's word, and the product of the halves of word ^ key."""
    swap = ir.Constant(ir.VectorType(ir.IntType(32), 8), [1, 0, 3, 2, 5, 4, 7, 6])
    mixed = builder.xor(value, key)
    lower = builder.and_(mixed, ir.Constant(_U64X8, [0xFFFFFFFF] * 8))
    product = builder.mul(lower, builder.lshr(mixed, ir.Constant(_U64X8, [32] * 8)))
    return builder.add(sums, builder.add(product, builder.shuffle_vector(value, value, swap)))


@_intrinsic
def xxh3_stripe(typingctx: Any, sums: Any, data: Any, at: Any, secret: Any, key: Any) -> Any:
    """Return the sums after the 64 bytes of a uint8 array from `at` on, with the secret from index `key` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        value = builder.load(_address(context, builder, kinds[1], args[1], args[2], _U64X8), align=1)
        mask = builder.load(_address(context, builder, kinds[3], args[3], args[4], _U64X8), align=1)
        return _accumulate(builder, args[0], value, mask)

    return U64X8(U64X8, data, types.int64, secret, types.int64), codegen


@_intrinsic
def xxh3_block(typingctx: Any, sums: Any, data: Any, at: Any, secret: Any) -> Any:
    """Return the sums after the 1,024 bytes from `at` on, and the scramble that ends a block of 16 stripes."""
    word = ir.IntType(64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, result = signature.args, args[0]

        def load(kind: Any, array: Any, index: Any) -> Any:
            return builder.load(_address(context, builder, kind, array, index, _U64X8), align=1)

        for stripe in range(16):
            index = builder.add(args[2], ir.Constant(word, 64 * stripe))
            value = load(kinds[1], args[1], index)
            result = _accumulate(
                builder, result, value, load(kinds[3], args[3], ir.Constant(word, 8 * stripe))
            )
        result = builder.xor(result, builder.lshr(result, ir.Constant(_U64X8, [47] * 8)))
        result = builder.xor(result, load(kinds[3], args[3], ir.Constant(word, 128)))
        return builder.mul(result, ir.Constant(_U64X8, [0x9E3779B1] * 8))

    return U64X8(U64X8, data, types.int64, secret), codegen


def _between(builder: Any, x: Any, low: int, count: int, kind: Any) -> Any:
    """Lanes of bytes from `low` to ``low + count - 1``."""
    shifted = builder.sub(x, ir.Constant(kind, [low] * kind.count))
    return builder.icmp_unsigned("<", shifted, ir.Constant(kind, [count] * kind.count))


@_intrinsic
def lower_words(typingctx: Any, source: Any, at: Any, target: Any, to: Any) -> Any:
    """Copy 64 bytes, ASCII letters in lower case; return a bit for each that belongs to a word.

    Words are made of ASCII letters, digits, the underscore, and all bytes from 0x80 on.
    """
    lanes, word = ir.VectorType(ir.IntType(8), 64), ir.IntType(64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = _address(context, builder, signature.args[0], args[0], args[1], lanes)
        write = _address(context, builder, signature.args[2], args[2], args[3], lanes)
        x = builder.load(read, align=1)
        capital = _between(builder, x, 0x41, 26, lanes)
        low = builder.select(capital, builder.or_(x, ir.Constant(lanes, [0x20] * 64)), x)
        builder.store(low, write, align=1)
        is_word = _between(builder, low, 0x61, 26, lanes)
        for first, count in ((0x30, 10), (0x5F, 1), (0x80, 0x80)):
            is_word = builder.or_(is_word, _between(builder, low, first, count, lanes))
        return builder.bitcast(is_word, word)

    return types.uint64(source, types.int64, target, types.int64), codegen
