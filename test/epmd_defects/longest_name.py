"""A name of 255 characters can be registered but not looked up."""

import kit

CHARACTERS = ("n", "\u00e9", "\u20ac", "\U0001f600")  # 1 to 4 bytes each in UTF-8


def registered_and_found(daemon, length):
    registered = found = 0
    for character in CHARACTERS:
        name = (character * length).encode()
        connection, result = daemon.register(name)
        registered += result == 0
        found += daemon.knows(name) is True
        connection.close()
    return registered, found


def examine(program):
    with kit.Daemon(program) as daemon:
        if registered_and_found(daemon, 254) != (len(CHARACTERS), len(CHARACTERS)):
            raise kit.CannotTell("names of 254 characters are not served either")
        registered, found = registered_and_found(daemon, 255)
    return found < registered, f"{registered} registered, {found} of them found"


if __name__ == "__main__":
    kit.main(examine)
