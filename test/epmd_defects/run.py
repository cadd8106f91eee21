"""Runs every script of this directory against OTP's epmd and against another one,
and prints what they saw as a table.

    python3 run.py OTP_EPMD OTHER_EPMD

Exit status 0 when each defect is there in the first program and in none of the
second; else 1. docs/epmd-defects.md describes the defects under the same numbers.
"""

import itertools
import os
import subprocess
import sys
import textwrap

SCRIPTS = (
    "duplicate_reset",
    "stop_unknown",
    "longest_name",
    "refused_stays_open",
    "many_nodes",
    "unread_reply",
    "out_of_descriptors",
    "close_then_register",
    "empty_name",
    "command_line",
)
SECONDS = 120
VERDICTS = {0: "free", 1: "DEFECT", 2: "UNKNOWN"}
WIDTHS = (22, 44, 44)


def run(script, program):
    """What a script says of a program: (status, line)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), script + ".py")
    try:
        done = subprocess.run([sys.executable, path, program], text=True,
                              capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 2, f"took more than {SECONDS} s"
    if done.returncode not in VERDICTS or not done.stdout:
        return 2, (done.stderr.strip().splitlines() or ["no output"])[-1]
    return done.returncode, done.stdout.strip()


def print_row(*cells):
    """One row of the table, as many lines high as its cells need."""
    columns = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS)]
    for line in itertools.zip_longest(*columns, fillvalue=""):
        padded = (part.ljust(width) for part, width in zip(line, WIDTHS))
        print(" | ".join(padded).rstrip())
    print("-+-".join("-" * width for width in WIDTHS), flush=True)


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} OTP_EPMD OTHER_EPMD")
    otp, other = sys.argv[1:]
    print(f"OTP's epmd: {otp}\nours:       {other}\n")
    print_row("defect", "OTP's epmd", "ours")
    unexpected = 0
    for number, script in enumerate(SCRIPTS, 1):
        seen = [run(script, otp), run(script, other)]
        unexpected += [status for status, _ in seen] != [1, 0]
        print_row(f"{number:>2} {script}",
                  *(f"{VERDICTS[status]}: {text}" for status, text in seen))
    print(f"\n{len(SCRIPTS) - unexpected} of {len(SCRIPTS)} as described")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
