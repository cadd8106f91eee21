"""A refused duplicate whose client resets its connection unregisters the node
that holds the name."""

import contextlib
import socket
import struct

import kit

ROUNDS_FREE = 200
ROUNDS_HELD_UP = 20


def reset_after_request(daemon, name, moment):
    """Asks for a name on a connection that the daemon has accepted, and resets it
    at once, which the daemon finds out when it writes the reply."""
    connection = daemon.connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    daemon.ask(kit.NAMES)  # answered: what connected earlier has been accepted
    with moment():
        kit.send(connection, kit.alive2(name))
        connection.close()
    daemon.ask(kit.NAMES)  # answered: what was sent earlier has had its turn


def examine(program):
    def holders_lost(rounds, moment):
        lost = 0
        for number in range(rounds):
            name = b"holder%d" % number
            holder, result = daemon.register(name)
            if result != 0:
                raise kit.CannotTell("the holder was not registered")
            reset_after_request(daemon, name, moment)
            if daemon.knows(name) is False and kit.is_open(holder):
                lost += 1
            holder.close()
        return lost

    with kit.Daemon(program) as daemon:
        held_up = holders_lost(ROUNDS_HELD_UP, daemon.held_up)
        free = holders_lost(ROUNDS_FREE, contextlib.nullcontext)
    return held_up + free > 0, (
        f"living nodes unregistered: {held_up} of {ROUNDS_HELD_UP} on a busy host, "
        f"{free} of {ROUNDS_FREE} on an idle one")


if __name__ == "__main__":
    kit.main(examine)
