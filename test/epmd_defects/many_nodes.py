"""Beyond FD_SETSIZE descriptors nobody is served any more, whatever the limit of
open files is."""

import kit

NODES = 1500
FILES = 4096
LOOKUPS = 20


def examine(program):
    kit.need_files(FILES)
    with kit.Daemon(program, files=FILES) as daemon:
        nodes = []
        registered = 0
        for number in range(NODES):
            connection, result = daemon.register(b"node%d" % number)
            nodes.append(connection)
            registered += result == 0
        answered = sum(daemon.knows(b"node%d" % number, seconds=1) is True
                       for number in range(LOOKUPS))
        for connection in nodes:
            connection.close()
    return registered < NODES or answered < LOOKUPS, (
        f"{registered} of {NODES} nodes registered, then {answered} of {LOOKUPS} "
        f"look-ups of registered nodes answered")


if __name__ == "__main__":
    kit.main(examine)
