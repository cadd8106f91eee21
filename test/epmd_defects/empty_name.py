"""An empty name is registered when anything follows its length fields. It cannot be
looked up, and while it is there the daemon refuses KILL."""

import kit

# What follows an empty name: (extra data, bytes behind the extra data).
REQUESTS = ((b"e", b""), (b"extra", b""), (b"", b"\0"), (b"e", b"\0"))
ROUNDS = 5


def examine(program):
    registered = found = in_the_way = 0
    with kit.Daemon(program) as daemon:
        for extra, behind in REQUESTS * ROUNDS:
            connection, result = daemon.register(b"", extra, behind)
            if result == 0:
                registered += 1
                found += daemon.knows(b"") is True
                in_the_way += daemon.ask(kit.KILL) == b"NO"
            connection.close()
            daemon.ask(kit.NAMES)  # answered: what was closed earlier is gone
    return registered > 0, (
        f"{registered} of {len(REQUESTS) * ROUNDS} registered, {found} of them found, "
        f"KILL refused for {in_the_way}")


if __name__ == "__main__":
    kit.main(examine)
