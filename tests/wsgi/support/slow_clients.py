"""Slow clients in one thread: readers that take a large response in small pieces, and senders that never
finish their request."""

import socket
import threading

PAUSE_S = 0.02
SENDER_HEAD = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
READER_HEAD = b"GET /chunks?count=40&size=100000 HTTP/1.1\r\nHost: test\r\n\r\n"


class SlowClients:
    """`count` readers and as many senders that work until the `with` block ends."""

    def __init__(self, port, count):
        self.done = threading.Event()
        self.bytes_read = self.bytes_sent = 0
        self.broken = []
        self.senders, self.readers = [], []
        for _ in range(count):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", port))
            reader.sendall(READER_HEAD)
            self.readers.append(reader)
            sender = socket.create_connection(("127.0.0.1", port))
            sender.sendall(SENDER_HEAD)
            self.senders.append(sender)
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        for client in self.readers + self.senders:
            client.close()

    def _work(self):
        while not self.done.wait(PAUSE_S):
            for reader in self.readers:
                try:
                    came = len(reader.recv(512, socket.MSG_DONTWAIT))
                    self.bytes_read += came
                    if not came:
                        self.broken.append("a reader was closed")
                except BlockingIOError:
                    continue  # the server had nothing to send yet
                except OSError as error:
                    self.broken.append(f"a reader was cut off: {error}")
            for sender in self.senders:
                try:
                    # 16 bytes in 20 ms: well above the minimum rate of a request body.
                    self.bytes_sent += sender.send(b"x" * 16, socket.MSG_DONTWAIT)
                except OSError as error:
                    self.broken.append(f"a sender was cut off: {error}")
