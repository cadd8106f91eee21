"""The connection of a refused registration stays open, without a time limit."""

import time

import kit

REFUSED = 20
IDLE_SECONDS = 10


def wait_until_closed(connection):
    deadline = time.monotonic() + IDLE_SECONDS
    while kit.is_open(connection):
        if time.monotonic() > deadline:
            raise kit.CannotTell("an idle connection was not closed either")
        time.sleep(0.05)


def examine(program):
    with kit.Daemon(program, "-packet_timeout", "1") as daemon:
        holder, _ = daemon.register(b"holder")
        refused = []
        for _ in range(REFUSED):
            connection, result = daemon.register(b"holder")
            if result != 1:
                raise kit.CannotTell("a duplicate was not refused")
            refused.append(connection)
        # By the time that this later one is closed for being idle, the others
        # have been idle for longer.
        idle = daemon.connect()
        wait_until_closed(idle)
        still_open = sum(kit.is_open(connection) for connection in refused)
        for connection in (holder, idle, *refused):
            connection.close()
    return still_open > 0, (
        f"{still_open} of {REFUSED} refused connections open after -packet_timeout")


if __name__ == "__main__":
    kit.main(examine)
