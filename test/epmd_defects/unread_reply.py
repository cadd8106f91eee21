"""A client that does not read its reply to NAMES stops the service for all."""

import socket

import kit

NODES = 500
NAME_LENGTH = 100  # a reply of 59 kB; it must be more than the kernel holds, about 45 kB
ETHERNET_SEGMENT = 1460
ROUNDS = 5
WAIT_SECONDS = 1


def name(number):
    return b"%0*d" % (NAME_LENGTH, number)


def ask_and_not_read(daemon):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_SEGMENT)
    client.connect(("127.0.0.1", daemon.port))
    kit.send(client, kit.NAMES)
    return client


def examine(program):
    with kit.Daemon(program) as daemon:
        nodes = [daemon.register(name(number))[0] for number in range(NODES)]
        unanswered = recovered = 0
        for _ in range(ROUNDS):
            client = ask_and_not_read(daemon)
            unanswered += daemon.knows(name(0), WAIT_SECONDS) is None
            client.close()
            recovered += daemon.knows(name(0)) is True
        for node in nodes:
            node.close()
    return unanswered > 0 or recovered < ROUNDS, (
        f"{unanswered} of {ROUNDS} look-ups unanswered while a client does not read, "
        f"{recovered} of {ROUNDS} answered once it is gone")


if __name__ == "__main__":
    kit.main(examine)
