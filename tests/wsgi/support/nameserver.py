"""A name server that accepts queries but holds back its answers until a test releases them."""

import os
import socket
import threading

from support.server import PATIENCE_S

PORT = 53  # resolv.conf(5) has no other
QUESTION_TYPE_A = 1


class Nameserver:
    """Listens at a loopback address that no other test process uses, and resolves every name to 127.0.0.1."""

    def __init__(self):
        self.address = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, PORT))  # requires root
        self._asked, self._let = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait_for_question(self):
        """Returns once a client waits for an answer."""
        assert self._asked.wait(PATIENCE_S), "no query came"

    def answer(self):
        """Answers the pending queries and all later ones."""
        self._let.set()

    def close(self):
        """Stops the server."""
        self._let.set()
        self._socket.sendto(b"", (self.address, PORT))
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _serve(self):
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            self._asked.set()
            self._let.wait()
            self._socket.sendto(_answer(question), asker)


def _answer(question):
    """Builds the response (RFC 1035 §4.1): the question, with one address for type A and none for other types."""
    end = 12
    while question[end]:
        end += 1 + question[end]
    end += 5
    is_a = int.from_bytes(question[end - 4 : end - 2], "big") == QUESTION_TYPE_A
    head = question[:2] + b"\x81\x80" + b"\0\1" + bytes([0, is_a]) + b"\0\0" + b"\0\0"
    address = b"\xc0\x0c" + b"\0\1" + b"\0\1" + b"\0\0\0\x05" + b"\0\4" + bytes([127, 0, 0, 1])
    return head + question[12:end] + (address if is_a else b"")
