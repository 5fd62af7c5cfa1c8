#!/usr/bin/python3
"""A second implementation of the rendezvous protocol, to test the first one against.

It shares no code with natlab and behaves as natpunch-go does: its server registers the source of handshakes and
lookups and never pushes; its client asks in rounds and never punches. Debian: python3-cryptography.

    natpunch_peer.py server PORT [duplicate]
    natpunch_peer.py client SERVER:PORT SERVER_KEY OWN_PORT SECONDS raw|plain KEY...

Keys are hexadecimal; the own private key is in the environment, NATPUNCH_KEY. Output: one JSON object a line.
"""
import hashlib
import hmac
import json
import os
import select
import socket
import struct
import sys
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"natpunch-go is the best :)"


def blake(data):
    return hashlib.blake2s(data).digest()


def mac(key, data):
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(key, material):
    temporary = mac(key, material)
    first = mac(temporary, b"\x01")
    return first, mac(temporary, first + b"\x02")


def nonce(counter):
    return b"\0\0\0\0" + struct.pack("<Q", counter)


def public(private):
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(private, key):
    return private.exchange(X25519PublicKey.from_public_bytes(key))


class Handshake:
    """The symmetric state of Noise rev 34, section 5.2."""

    def __init__(self, responder):
        self.hash = self.chain = blake(NAME)
        self.mix_hash(PROLOGUE)
        self.mix_hash(responder)
        self.key, self.counter = None, 0

    def mix_hash(self, data):
        self.hash = blake(self.hash + data)

    def mix_key(self, secret):
        self.chain, self.key = kdf(self.chain, secret)
        self.counter = 0

    def seal(self, plaintext):
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce(self.counter), plaintext, self.hash)
        self.counter += 1
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed):
        plaintext = ChaCha20Poly1305(self.key).decrypt(nonce(self.counter), sealed, self.hash)
        self.counter += 1
        self.mix_hash(sealed)
        return plaintext

    def split(self):
        return kdf(self.chain, b"")


def say(**fields):
    print(json.dumps(fields), flush=True)


def serve(private, port, duplicate):
    own = public(private)
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind(("0.0.0.0", port))
    say(event="serving", key=own.hex())
    places, sessions = {}, {}
    while True:
        data, source = ear.recvfrom(2048)
        try:
            if data[0] == 1:
                answer = greet(private, own, data, source, places, sessions)
            elif data[0] == 3:
                answer = look_up(data, source, places, sessions)
            else:
                say(event="unknown", type=data[0])
                continue
        except (InvalidTag, IndexError, KeyError, struct.error):
            continue
        for _ in range(2 if duplicate else 1):
            ear.sendto(answer, source)


def greet(private, own, data, source, places, sessions):
    state = Handshake(own)
    proposed, ephemeral = struct.unpack(">I", data[1:5])[0], data[5:37]
    state.mix_hash(ephemeral)
    state.mix_key(agree(private, ephemeral))
    client = state.open(data[37:85])
    state.mix_key(agree(private, client))
    payload = state.open(data[85:])
    assigned = proposed
    while assigned in sessions:
        assigned = (assigned + 1) & 0xFFFFFFFF
    mine = X25519PrivateKey.generate()
    state.mix_hash(public(mine))
    state.mix_key(agree(mine, ephemeral))
    state.mix_key(agree(mine, client))
    tag = state.seal(b"")
    receive, send = state.split()
    sessions[assigned] = {"client": client, "receive": receive, "send": send, "next": 0, "sent": 0}
    places[client] = source
    say(event="handshake", key=client.hex(), source="%s:%d" % source, payload=len(payload))
    return b"\x02" + struct.pack(">I", assigned) + public(mine) + tag


def look_up(data, source, places, sessions):
    index, counter = struct.unpack(">IQ", data[1:13])
    session = sessions[index]
    plaintext = ChaCha20Poly1305(session["receive"]).decrypt(nonce(counter), data[13:], b"")
    if counter < session["next"]:
        raise KeyError("replay")
    session["next"] = counter + 1
    places[session["client"]] = source
    target = plaintext[32:64]
    place = places.get(target)
    answer = b"" if place is None else socket.inet_aton(place[0]) + struct.pack(">H", place[1])
    number = session["sent"]
    session["sent"] += 1
    say(event="lookup", key=session["client"].hex(), target=target.hex(), found=place is not None)
    return b"\x03" + struct.pack(">Q", number) + ChaCha20Poly1305(session["send"]).encrypt(nonce(number), answer, b"")


class Line:
    """Datagrams to and from the server: from a port of its own, or raw beside whoever owns the port."""

    def __init__(self, server, port, raw):
        self.server, self.port, self.raw = server, port, raw
        if raw:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind(("0.0.0.0", port))

    def send(self, data):
        if self.raw:
            # Checksum 0: none (RFC 768).
            data = struct.pack(">HHHH", self.port, self.server[1], 8 + len(data), 0) + data
        self.socket.sendto(data, (self.server[0], 0) if self.raw else self.server)

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return None
            data, source = self.socket.recvfrom(2048)
            if not self.raw:
                if source == self.server:
                    return data
                continue
            start = (data[0] & 15) * 4
            ports = struct.unpack(">HH", data[start:start + 4])
            if source[0] == self.server[0] and ports == (self.server[1], self.port):
                return data[start + 8:]


def join(private, server, key, line, seconds, wanted):
    own, end = public(private), time.monotonic() + seconds
    session = None
    while time.monotonic() < end:
        if session is None:
            session = handshake(private, own, key, line)
            if session is None:
                say(event="silent")
                continue
            say(event="session")
        for target in wanted:
            number = session["sent"]
            session["sent"] += 1
            sealed = ChaCha20Poly1305(session["send"]).encrypt(nonce(number), own + target, b"")
            line.send(b"\x03" + struct.pack(">IQ", session["index"], number) + sealed)
            answer = line.receive(1)
            if answer is None:
                say(event="timeout")
                session = None
                break
            if answer[0] != 3:
                say(event="surprise", type=answer[0], size=len(answer))
                continue
            counter = struct.unpack(">Q", answer[1:9])[0]
            place = ChaCha20Poly1305(session["receive"]).decrypt(nonce(counter), answer[9:], b"")
            endpoint = "%s:%d" % (socket.inet_ntoa(place[:4]), struct.unpack(">H", place[4:6])[0]) if place else None
            say(event="answer", target=target.hex(), endpoint=endpoint)
        time.sleep(0.2)


def handshake(private, own, key, line):
    state = Handshake(key)
    mine = X25519PrivateKey.generate()
    state.mix_hash(public(mine))
    state.mix_key(agree(mine, key))
    message = b"\x01" + os.urandom(4) + public(mine) + state.seal(own)
    state.mix_key(agree(private, key))
    line.send(message + state.seal(struct.pack(">Q", time.time_ns())))
    answer = line.receive(1)
    if answer is None or len(answer) != 53 or answer[0] != 2:
        return None
    state.mix_hash(answer[5:37])
    state.mix_key(agree(mine, answer[5:37]))
    state.mix_key(agree(private, answer[5:37]))
    state.open(answer[37:])
    send, receive = state.split()
    return {"index": struct.unpack(">I", answer[1:5])[0], "send": send, "receive": receive, "sent": 0}


def main():
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(os.environ["NATPUNCH_KEY"]))
    if sys.argv[1] == "server":
        serve(private, int(sys.argv[2]), "duplicate" in sys.argv[3:])
        return
    host, port = sys.argv[2].split(":")
    server = (host, int(port))
    line = Line(server, int(sys.argv[4]), sys.argv[6] == "raw")
    join(private, server, bytes.fromhex(sys.argv[3]), line, float(sys.argv[5]), [bytes.fromhex(k) for k in sys.argv[7:]])


main()
