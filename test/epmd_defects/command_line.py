"""`-address 0.0.0.0` exits with status 0 without listening (on Linux), and `-help`
is not an option."""

import subprocess

import kit

HELP_SECONDS = 10


def any_address(program):
    """Whether the program listens, and what to say about it."""
    try:
        with kit.Daemon(program, address="0.0.0.0"):
            return True, "listens"
    except kit.DidNotStart as end:
        return False, f"exits with status {end.status} without listening"


def help_option(program):
    """Whether the program prints its usage as asked, and what to say about it."""
    try:
        done = subprocess.run([program, "-help"], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=HELP_SECONDS)
    except subprocess.TimeoutExpired:
        return False, "does not end"
    return done.returncode == 0 and bool(done.stdout), f"status {done.returncode}"


def examine(program):
    listens, address = any_address(program)
    helps, usage = help_option(program)
    return not (listens and helps), f"-address 0.0.0.0: {address}; -help: {usage}"


if __name__ == "__main__":
    kit.main(examine)
