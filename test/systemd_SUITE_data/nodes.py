"""Registers as many nodes, on the EPMD of this host, and looks after them.

    nodes.py COUNT

Tells `registered` once they are; then, for every line of its standard input,
`closed N`: how many of their connections have ended.
"""

import resource
import socket
import struct
import sys


def register(number):
    name = b"n%d" % number
    fixed = struct.pack(">BHBBHHH", ord("x"), number, 77, 0, 6, 5, len(name))
    request = fixed + name + struct.pack(">H", 0)
    node = socket.create_connection(("127.0.0.1", 4369))
    node.sendall(struct.pack(">H", len(request)) + request)
    reply = node.recv(6, socket.MSG_WAITALL)
    assert reply[:2] == b"v\0", reply
    node.setblocking(False)
    return node


def is_closed(node):
    try:
        return node.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
nodes = [register(number) for number in range(int(sys.argv[1]))]
print("registered", flush=True)
for _ in sys.stdin:
    print("closed", sum(map(is_closed, nodes)), flush=True)
