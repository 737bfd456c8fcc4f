"""An interpreter for classic BPF, written from the definition of the instruction set (linux/filter.h, bpf(4)).

It knows nothing of what connbal compiles, so that the two can be compared.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from connbal.model.config import IPAddress

_M32 = 0xFFFFFFFF
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add, 0x10: operator.sub, 0x20: operator.mul, 0x40: operator.or_, 0x50: operator.and_,
    0x60: operator.lshift, 0x70: operator.rshift, 0xA0: operator.xor,
}  # fmt: skip
_COMPARE: dict[int, Callable[[int, int], bool]] = {
    0x10: operator.eq, 0x20: operator.gt, 0x30: operator.ge, 0x40: lambda a, k: bool(a & k),
}  # fmt: skip


def run(code: Sequence[tuple[int, int, int, int]], data: bytes) -> bool:
    """Whether the program accepts ``data``. A load from beyond its end ends the program with 0, as in the kernel."""
    a = x = at = 0
    while True:
        opcode, jump_true, jump_false, k = code[at]
        at += 1
        kind, operand = opcode & 7, x if opcode & 8 else k
        if kind == _LD:
            size = _SIZES[opcode & 0x18]
            assert opcode & 0xE0 == 0x20, "absolute loads only"
            if k + size > len(data):
                return False
            a = int.from_bytes(data[k : k + size], "big")
        elif kind == _ALU:
            a = _ARITHMETIC[opcode & 0xF0](a, operand) & _M32
        elif kind == _JMP:
            at += k if not opcode & 0xF0 else jump_true if _COMPARE[opcode & 0xF0](a, operand) else jump_false
        elif kind == _RET:
            return bool(a if opcode & 0x18 == 0x10 else k)
        elif kind == _MISC:
            a, x = (x, x) if opcode & 0x80 else (a, a)
        else:
            raise AssertionError(f"unknown instruction {opcode:#x}")


def packet(source: IPAddress, destination: IPAddress, rest: bytes = b"") -> bytes:
    """A packet from its network header on, with arbitrary values wherever there is no address."""
    if source.version == 4:
        return bytes.fromhex("4500004000004000400600ff") + source.packed + destination.packed + rest
    return bytes.fromhex("6000000000140640") + source.packed + destination.packed + rest
