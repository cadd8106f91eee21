#!/usr/bin/env python3
"""The virtual machine's side of the keeper's protocol, led by a test.

It connects to the Unix socket VM_CONTROL, tells as a line of JSON how it was
started, and then does what it is told: a line of JSON `[NAME, ARGUMENT...]`
each, answered by a line of JSON.
"""

import json
import os
import resource
import signal
import socket
import stat
import sys

FIRST_DESCRIPTOR = 3

count = int(os.environ["LISTEN_FDS"])
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == count and int(os.environ["LISTEN_PID"]) == os.getpid()
handed_over = dict(zip(names, range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count)))
keeper = socket.socket(fileno=handed_over["keeper"])


def listens(number):
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return False
    with socket.socket(fileno=os.dup(number)) as copy:
        return bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


listeners = {name: socket.socket(fileno=number) for name, number in handed_over.items()
             if listens(number)}
accepted = {}
awaited = set()


def send(text, *descriptors):
    socket.send_fds(keeper, [text.encode()], descriptors)


class Commands:
    """Every one answers what is of use to the test."""

    @staticmethod
    def tell(text):
        send(text)

    @staticmethod
    def tell_bytes(numbers):
        keeper.send(bytes(numbers))

    @staticmethod
    def tell_from_child(text):
        if os.fork() == 0:
            send(text)
            os._exit(0)
        os.wait()

    @staticmethod
    def tell_with_descriptors(text, number):
        send(text, *[sys.stdin.fileno()] * number)

    @staticmethod
    def accept(name):
        """Keeps a connection, and has the keeper hold it."""
        listener = next(one for one in listeners.values() if one.family == socket.AF_INET)
        accepted[name] = listener.accept()[0]
        send("FDSTORE=1\nFDNAME=" + name, accepted[name].fileno())

    @staticmethod
    def write(name, text):
        """Over a connection that was handed over."""
        socket.socket(fileno=os.dup(handed_over[name])).send(text.encode())

    @staticmethod
    def close(name):
        accepted.pop(name).close()

    @staticmethod
    def close_listeners():
        for one in listeners.values():
            one.close()

    @staticmethod
    def store_many(number):
        for index in range(number):
            send(f"FDSTORE=1\nFDNAME=s{index:x}", sys.stdin.fileno())

    @staticmethod
    def store_and_die(number):
        Commands.store_many(number)
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def serve_and_die():
        send("READY=1")
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def barrier():
        reader, writer = os.pipe()
        send("BARRIER=1", writer)
        os.close(writer)
        return os.read(reader, 1).decode()

    @staticmethod
    def take_signals(numbers):
        """Has these signals wait from now on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        awaited.update(numbers)

    @staticmethod
    def signals():
        """The next of them."""
        return [signal.sigwait(awaited)]

    @staticmethod
    def exit(status):
        os._exit(status)


def main():
    control = socket.socket(socket.AF_UNIX)
    control.connect(os.environ["VM_CONTROL"])
    hello = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "names": names,
        "listeners": sorted(listeners),
        "soft_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "hard_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "open": len(os.listdir("/proc/self/fd")),
        "ignores_hangup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
        "arguments": sys.argv[1:],
        "variables": sorted(os.environ),
    }
    answer(control, hello)
    for line in control.makefile():
        name, *arguments = json.loads(line)
        answer(control, getattr(Commands, name)(*arguments))


def answer(control, value):
    control.sendall(json.dumps(value).encode() + b"\n")


main()
