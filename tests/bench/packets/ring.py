"""Many frames by one system call: a ring that the kernel sends from.

From packet(7) and Documentation/networking/packet_mmap.rst: TPACKET_V2, with the frame behind its header of 32 bytes.
A veth hands each frame to the far end at once, and the kernel works it off (soft interrupts, on the same processor)
before it takes the next one. So the time that sending takes is that of the whole way. Who counts at the far end as soon
as it is over sees whether that holds.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
from collections.abc import Sequence
from types import TracebackType

_SOL_PACKET, _PACKET_VERSION, _PACKET_TX_RING, _PACKET_LOSS = 263, 10, 13, 14
_TPACKET_V2 = 1
_SEND_REQUEST = 1
_HEADER = 32  #: of a frame: struct tpacket2_hdr, padded to 16
_SLOT = 256
_BLOCK = 1 << 16


class Ring:
    """Sends images of ``slots`` frames each out of a device of the namespace that the thread is in when it is made.

    ``slots`` is a multiple of 256. Close it, or use it with ``with``.
    """

    def __init__(self, device: str, slots: int) -> None:
        self.slots = slots
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_LOSS, 1)
            blocks = slots * _SLOT // _BLOCK
            self._socket.setsockopt(_SOL_PACKET, _PACKET_TX_RING, struct.pack("=IIII", _BLOCK, blocks, _SLOT, slots))
            self._socket.bind((device, 0))
            self._memory = mmap.mmap(self._socket.fileno(), slots * _SLOT)
        except BaseException:
            self._socket.close()
            raise

    def send(self, image: bytes) -> float:
        """Send all frames of an image; the seconds until the last was at its end. OSError where the kernel refuses."""
        self._memory[:] = image
        begin = time.perf_counter()
        self._socket.send(b"")
        return time.perf_counter() - begin

    def close(self) -> None:
        self._memory.close()
        self._socket.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def image(frames: Sequence[bytes]) -> bytes:
    """Frames as a ring holds them. ValueError where one is too long."""
    if max(map(len, frames)) > _SLOT - _HEADER:
        raise ValueError(f"a frame has at most {_SLOT - _HEADER} bytes")
    return b"".join(
        struct.pack("=III", _SEND_REQUEST, len(frame), len(frame)).ljust(_HEADER, b"\0")
        + frame.ljust(_SLOT - _HEADER, b"\0")
        for frame in frames
    )
