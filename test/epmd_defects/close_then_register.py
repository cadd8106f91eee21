"""A registration is refused though the holder of the name closed its connection
before it: which of the two is seen first depends on their places in a table."""

import contextlib

import kit

ROUNDS_HELD_UP = 100
ROUNDS_FREE = 2000


def refused(daemon, lower, moment):
    """Whether a name that is closed and registered again at once is refused. The
    new connection gets a place below the old one (`lower`), or above it."""
    name = b"restarted"
    below = daemon.connect()
    daemon.ask(kit.NAMES)  # answered: what connected earlier has its place
    holder, result = daemon.register(name)
    if result != 0:
        raise kit.CannotTell("the holder was not registered")
    if lower:
        below.close()
        daemon.ask(kit.NAMES)  # answered: what was closed earlier has left its place
    with moment():
        holder.close()
        successor = daemon.connect()
        kit.send(successor, kit.alive2(name))
    reply = kit.read(successor, 6)
    if not reply:
        raise kit.CannotTell("the registration was not answered")
    for connection in (below, successor):
        connection.close()
    daemon.ask(kit.NAMES)
    return reply[1] != 0


def examine(program):
    def count(rounds, **how):
        return sum(refused(daemon, **how) for _ in range(rounds))

    with kit.Daemon(program) as daemon:
        lower = count(ROUNDS_HELD_UP, lower=True, moment=daemon.held_up)
        higher = count(ROUNDS_HELD_UP, lower=False, moment=daemon.held_up)
        free = count(ROUNDS_FREE, lower=True, moment=contextlib.nullcontext)
    return lower + higher + free > 0, (
        f"refused: {lower} of {ROUNDS_HELD_UP} on a busy host ({higher} of "
        f"{ROUNDS_HELD_UP} from a higher place), {free} of {ROUNDS_FREE} on an idle one")


if __name__ == "__main__":
    kit.main(examine)
