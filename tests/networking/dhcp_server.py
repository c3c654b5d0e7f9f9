"""A DHCP server that says what a file says, whatever that is: `key value` lines, looked at for each answer.

`address`, `server`, `mask`, `router`, `dns` are addresses, `lease` seconds, `option NUMBER` bytes in hexadecimal digits;
`refuses yes`: requests are. What it is asked it prints: `discover`, `request ADDRESS`, `release ADDRESS`, each with the
client's hardware address and name.
"""

import socket
import struct
import sys

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_KINDS = {1: "discover", 3: "request", 4: "decline", 7: "release"}
_OFFER, _ACK, _NAK = 2, 5, 6


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def options(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        length = data[at + 1]
        found[data[at]] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def main(interface: str, path: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        server.bind(("", 67))
        say("up")
        while True:
            data, _ = server.recvfrom(1500)
            if len(data) >= _HEAD.size:
                answer(server, data, path)


def answer(server: socket.socket, data: bytes, path: str) -> None:
    fields = list(_HEAD.unpack_from(data))
    asked = options(data[_HEAD.size :])
    kind = _KINDS.get(asked.get(53, b"\0")[0], "")
    own = asked[50] if 50 in asked else fields[7]
    mac, name = fields[11][:6].hex(":"), asked.get(12, b"").decode()
    say(kind, socket.inet_ntoa(own), mac, name)
    if kind not in ("discover", "request"):
        return
    with open(path, encoding="ascii") as file:
        said = [line.split() for line in file]
    values = {words[0]: words[1] for words in said if words[0] != "option"}
    if "address" not in values:
        return
    answered = _OFFER if kind == "discover" else _NAK if "refuses" in values else _ACK
    given = [(53, bytes([answered]))]
    given.append((54, socket.inet_aton(values["server"])))
    given.append((51, struct.pack("!I", int(values.get("lease", "600")))))
    for number, key in ((1, "mask"), (3, "router"), (6, "dns")):
        if key in values:
            given.append((number, socket.inet_aton(values[key])))
    given += [(int(words[1]), bytes.fromhex(words[2])) for words in said if words[0] == "option"]
    fields[0], fields[8] = 2, socket.inet_aton(values["address"])
    fields[14] = _COOKIE
    body = b"".join(bytes([number, len(value)]) + value for number, value in given) + b"\xff"
    server.sendto(_HEAD.pack(*fields) + body.ljust(64, b"\0"), ("255.255.255.255", 68))


if __name__ == "__main__":
    main(*sys.argv[1:])
