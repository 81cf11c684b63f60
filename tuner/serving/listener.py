"""The sockets that services listen on."""

import contextlib
import ctypes
import errno
import socket
import struct

from tuner.errors import UsageError

_SO_ATTACH_FILTER = 26  # of <asm-generic/socket.h>; Python has no name for it
# Classic BPF (linux/filter.h): code, jump if true, jump if false, operand. Drops a segment with SYN
# and without ACK, which asks for a new connection; lets all others pass.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # pass all of it
)


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Bound, and not listening yet. UsageError, naming the ``option`` of the port, if the address
    is not available.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        is_taken = error.errno == errno.EADDRINUSE
        remedy = f"choose another {option}, or 0 for a free one"
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            + (remedy if is_taken else f"check --host and {option}")
        ) from error
    listener.set_inheritable(True)  # by workers
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refuse_new_connections(listener: socket.socket) -> None:
    """Have the kernel ignore requests for new connections, for all processes that listen here.

    Otherwise one could complete between the last ``accept`` and the close, and would be reset. Its
    client asks again after a second, and is refused then. Without effect if the kernel has no such
    filters.
    """
    program = b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program)
    argument = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)
