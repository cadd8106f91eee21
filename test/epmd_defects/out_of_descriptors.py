"""A daemon that runs out of file descriptors ends, and all names with it (or, in
newer releases, goes round its loop without pause, writing an error each time)."""

import contextlib
import os
import subprocess
import time

import kit

FILES = 1024
AT_ONCE = 1000
AT_MOST = 1040
ROUNDS = 3
FLOOD = 100_000  # bytes that are written in WATCH_SECONDS
WATCH_SECONDS = 0.5


def ended(daemon, seconds=0):
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.process.wait(seconds)
    return daemon.process.poll() is not None


def fill(daemon):
    """Idle connections, until the daemon ends or there are AT_MOST of them."""
    idle = []
    with contextlib.suppress(OSError):
        while len(idle) < AT_MOST and not ended(daemon, 0.02 if len(idle) >= AT_ONCE else 0):
            idle.append(daemon.connect())
    return idle


def bytes_written(daemon):
    before = os.fstat(daemon.output.fileno()).st_size
    time.sleep(WATCH_SECONDS)
    return os.fstat(daemon.output.fileno()).st_size - before


def examine_once(program):
    """What happened to the daemon: nothing is "served on"."""
    with kit.Daemon(program, files=FILES) as daemon:
        node, _ = daemon.register(b"node")
        idle = fill(daemon)
        # There were the connection of the node and the idle ones, the last of them too many.
        if ended(daemon):
            return f"ended with status {daemon.process.returncode} at connection {len(idle) + 1}"
        flooded = bytes_written(daemon) > FLOOD
        for connection in idle:
            connection.close()
        kept = daemon.knows(b"node") is True
        node.close()
    if not kept:
        return "lost the node"
    return "looped without pause" if flooded else "served on"


def examine(program):
    kit.need_files(4096)
    seen = [examine_once(program) for _ in range(ROUNDS)]
    text = ", ".join(f"{seen.count(what)} of {ROUNDS} {what}" for what in sorted(set(seen)))
    return seen != ["served on"] * ROUNDS, text


if __name__ == "__main__":
    kit.main(examine)
