"""Classic BPF for ``iptables -m bpf --bytecode``: the hash of :mod:`connbal.plan.affinity` as a program.

The program sees the packet from its network header on (xt_bpf), so an IPv4 source address is at offset 12 and an
IPv6 one at 8. It returns 1 where the hash is in the interval, else 0. At most 64 instructions (XT_BPF_MAX_NUM_INSTR).
"""

from __future__ import annotations

from connbal.model.config import Affinity, Family
from connbal.plan.affinity import FOLD, MIX_1, MIX_2, SPACE
from connbal.plan.values import HashShare

# Opcodes from linux/bpf_common.h and linux/filter.h, under the names of bpf_asm.
LD_ABS = 0x20  # A = word at k
ADD_K, SUB_K, MUL_K, RSH_K = 0x04, 0x14, 0x24, 0x74
ADD_X, XOR_X = 0x0C, 0xAC
TAX = 0x07
JGE_K = 0x35
RET_K = 0x06

Instruction = tuple[int, int, int, int]  #: opcode, jump if true, jump if false, k

_ADDRESSES = {Family.IPV4: (12, 1), Family.IPV6: (8, 4)}  # offset of the source, words per address


def program(share: HashShare, family: Family) -> list[Instruction]:
    """The instructions that decide whether a packet is within ``share``."""
    offset, size = _ADDRESSES[family]
    count = size * 2 if share.affinity is Affinity.PAIR else size
    code: list[Instruction] = []
    for position in range(count):
        at = offset + 4 * position
        if position == 0:
            code += [(LD_ABS, 0, 0, at), (MUL_K, 0, 0, FOLD)]
        else:
            code += [(TAX, 0, 0, 0), (LD_ABS, 0, 0, at), (ADD_X, 0, 0, 0), (MUL_K, 0, 0, FOLD)]
    code.append((ADD_K, 0, 0, share.seed))
    for shift, factor in ((16, MIX_1), (13, MIX_2), (16, None)):
        code += [(TAX, 0, 0, 0), (RSH_K, 0, 0, shift), (XOR_X, 0, 0, 0)]
        if factor is not None:
            code.append((MUL_K, 0, 0, factor))
    if share.low:
        code.append((SUB_K, 0, 0, share.low))
    # The subtraction wraps, so one comparison checks both ends of the interval.
    code += [(JGE_K, 1, 0, min(share.size, SPACE - 1)), (RET_K, 0, 0, 1), (RET_K, 0, 0, 0)]
    return code


def bytecode(share: HashShare, family: Family) -> str:
    """The program in the form ``--bytecode`` takes: ``"count,op jt jf k,…"``."""
    code = program(share, family)
    return ",".join([str(len(code)), *(" ".join(map(str, instruction)) for instruction in code)])
