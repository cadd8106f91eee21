"""STOP of a name that is not registered is answered twice."""

import kit

ROUNDS = 20


def examine(program):
    with kit.Daemon(program, "-relaxed_command_check") as daemon:
        replies = [daemon.ask(kit.stop(b"nobody%d" % number)) for number in range(ROUNDS)]
    wrong = [reply for reply in replies if reply != b"NOEXIST"]
    seen = ", ".join(sorted({repr(reply) for reply in replies}))
    return bool(wrong), f"{len(wrong)} of {ROUNDS} replies wrong; seen: {seen}"


if __name__ == "__main__":
    kit.main(examine)
