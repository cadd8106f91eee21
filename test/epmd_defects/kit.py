"""What the scripts of this directory share: a daemon to look at, the protocol's
requests, and the way in which a script says what it saw.

A script takes the path of an EPMD program and prints one line. Exit status:
0 the defect is not there, 1 it is, 2 it could not be examined.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

START_SECONDS = 20
ANSWER_SECONDS = 5
NODE_PORT = 4711

NAMES = b"n"
KILL = b"k"


class CannotTell(Exception):
    """The defect could not be examined; the text says why."""


class DidNotStart(CannotTell):
    """A daemon does not answer; `status` is its exit status if it has ended."""

    def __init__(self, status, text):
        ending = "runs" if status is None else f"ended with status {status}"
        super().__init__(f"the program does not answer and {ending}: {text or 'no output'}")
        self.status = status


def alive2(name, extra=b"", behind=b""):
    """The body of ALIVE2 for an ordinary node (type 77, TCP, versions 6 to 5)."""
    return (struct.pack(">cHBBHHH", b"x", NODE_PORT, 77, 0, 6, 5, len(name)) + name
            + struct.pack(">H", len(extra)) + extra + behind)


def port_please2(name):
    """The body of PORT_PLEASE2."""
    return b"z" + name


def stop(name):
    """The body of STOP."""
    return b"s" + name


def send(connection, body):
    """Sends one request; a connection that is gone shows when it is read."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(struct.pack(">H", len(body)) + body)


def read(connection, size, seconds=ANSWER_SECONDS):
    """Up to `size` bytes, fewer when the stream ends; `None` when time is over."""
    data = b""
    deadline = time.monotonic() + seconds
    try:
        while len(data) < size:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(size - len(data))
            if not part:
                break
            data += part
    except socket.timeout:
        return None
    except ConnectionError:
        pass
    return data


def read_all(connection, seconds=ANSWER_SECONDS):
    """Everything up to the end of the stream; `None` when that does not come."""
    return read(connection, 1 << 30, seconds)


def is_open(connection):
    """Whether the other side has not closed, reset or written to a connection."""
    connection.setblocking(False)
    try:
        connection.recv(1)
        return False
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


class Daemon:
    """An EPMD in the foreground on a port of its own, ended with the `with` block."""

    def __init__(self, program, *options, address="127.0.0.1", files=None):
        """`files`: the limit of open files that the program gets, soft and hard."""
        self.port = free_port()
        command = [program, "-port", str(self.port), "-address", address, *options]
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL,
            stdout=self.output, stderr=self.output,
            preexec_fn=lambda: files and limit_files(files))

    def __enter__(self):
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def wait_until_it_answers(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if (self.ask(NAMES) or b"")[:4] == struct.pack(">I", self.port):
                    return
            time.sleep(0.02)
        self.output.seek(0)
        text = self.output.read().decode(errors="replace").strip()
        raise DidNotStart(self.process.poll(), text)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS)

    def ask(self, body, seconds=ANSWER_SECONDS):
        """The whole reply; `None` when there is none in time."""
        with self.connect() as connection:
            send(connection, body)
            return read_all(connection, seconds)

    def register(self, name, extra=b"", behind=b""):
        """An ALIVE2's connection, and its result: 0 registered, 1 refused, `None`
        closed or silent. Close the connection to end the registration."""
        connection = self.connect()
        send(connection, alive2(name, extra, behind))
        reply = read(connection, 6)
        return connection, reply[1] if reply and len(reply) == 6 else None

    def knows(self, name, seconds=ANSWER_SECONDS):
        """Whether a look-up finds the name; `None` when it is not answered."""
        reply = self.ask(port_please2(name), seconds)
        return reply[1] == 0 if reply else None

    @contextlib.contextmanager
    def held_up(self):
        """Keeps the daemon from running meanwhile, as a busy host does."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise CannotTell("the program ended")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def clean_environment():
    """The environment without what would change a daemon's behaviour."""
    return {key: value for key, value in os.environ.items()
            if not key.startswith("ERL_EPMD_")}


def free_port():
    """A free port below those that the system gives to clients."""
    for _ in range(100):
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
    raise CannotTell("no free port")


def limit_files(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def need_files(count):
    """Lets this script, and what it starts, open `count` files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise CannotTell(f"needs a hard limit of {count} open files, there are {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def main(examine):
    """Runs `examine(program)`, which returns (whether the defect is there, a line)."""
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} PROGRAM", file=sys.stderr)
        sys.exit(2)
    try:
        shown, text = examine(sys.argv[1])
    except (CannotTell, OSError) as reason:
        print(f"cannot tell: {reason}")
        sys.exit(2)
    print(text)
    sys.exit(1 if shown else 0)
