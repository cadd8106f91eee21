"""A service manager that speaks systemd's protocol, for one service.

    manager.py WATCHDOG_USEC COMMAND...

It listens for the service on a port of the loopback addresses, and tells it on
its standard output: `port N`. It obeys lines on its standard input:

    start         starts the service with the sockets
    signal NAME   sends it a signal

and tells what comes: `told ASSIGNMENT` for a line of a message of the main
process, `stranger PID` for a message of another one, `ended STATUS`.
"""

import os
import selectors
import signal
import socket
import struct
import sys
import traceback

FIRST_DESCRIPTOR = 3
# Above those that the service gets.
OUT_OF_THE_WAY = 64


def tell(*words):
    print(*words, flush=True)


def listen():
    """Sockets of both families, as far as they are there, on one port."""
    sockets = []
    port = 0
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
        except OSError:
            # Without IPv4 there is no port yet, and no port is no test.
            if not port:
                raise
            continue
        one.listen(128)
        port = one.getsockname()[1]
        sockets.append(one)
    tell("port", port)
    return sockets


class Manager:
    def __init__(self, watchdog_usec, command):
        self.watchdog_usec = watchdog_usec
        self.command = command
        self.listeners = listen()
        self.messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.messages.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.messages.setblocking(False)
        # The system names it.
        self.messages.bind("")
        self.address = "@" + self.messages.getsockname()[1:].decode()
        self.pid = None

    def start(self):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.become_service()
            except BaseException:
                traceback.print_exc()
            os._exit(127)

    def become_service(self):
        # Not one of the descriptors that are wanted, nor closed by `dup2`.
        above = [os.dup2(one.fileno(), OUT_OF_THE_WAY + index)
                 for index, one in enumerate(self.listeners)]
        for number, descriptor in enumerate(above, FIRST_DESCRIPTOR):
            os.dup2(descriptor, number, inheritable=True)
        last = FIRST_DESCRIPTOR + len(above)
        os.closerange(last, OUT_OF_THE_WAY + len(above))
        pid = str(os.getpid())
        # As systemd has it.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(self.command[0], self.command, {
            "PATH": os.environ["PATH"],
            "LISTEN_FDS": str(len(above)),
            "LISTEN_PID": pid,
            "LISTEN_FDNAMES": ":".join("epmd.socket" for _ in above),
            "NOTIFY_SOCKET": self.address,
            "WATCHDOG_USEC": self.watchdog_usec,
            "WATCHDOG_PID": pid,
        })

    def read_messages(self):
        try:
            while True:
                self.read_message()
        except BlockingIOError:
            pass

    def read_message(self):
        room = socket.CMSG_SPACE(struct.calcsize("3i"))
        message, ancillary, _, _ = self.messages.recvmsg(4096, room)
        sender = next(struct.unpack("3i", data)[0] for level, kind, data in ancillary
                      if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS))
        if sender != self.pid:
            tell("stranger", sender)
            return
        for line in message.decode().split("\n"):
            tell("told", line)

    def obey(self, line):
        words = line.split()
        if words == ["start"]:
            self.start()
        elif words[0] == "signal" and self.pid:
            os.kill(self.pid, getattr(signal, "SIG" + words[1]))

    def bury(self):
        while self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
            # What it said before comes first.
            self.read_messages()
            self.pid = None
            tell("ended", os.waitstatus_to_exitcode(status))

    def run(self):
        woken, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        for source in (sys.stdin, self.messages, woken):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is self.messages:
                    self.read_messages()
                elif key.fileobj is woken:
                    woken.recv(64)
                    self.bury()
                else:
                    lines = os.read(sys.stdin.fileno(), 4096).decode()
                    if not lines:
                        return
                    for line in lines.splitlines():
                        self.obey(line)

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


if __name__ == "__main__":
    manager = Manager(sys.argv[1], sys.argv[2:])
    try:
        manager.run()
    finally:
        manager.end()
