"""Reads the first file of a multipart/form-data body (RFC 7578) without holding it in memory."""

import hashlib
import re

PIECE_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 16 * 1024


class BadForm(ValueError):
    """The body is not a form with a file in it; the text says why."""


class Upload:
    """What is known of an uploaded file once it has been read."""

    def __init__(self, name, size_bytes, sha256):
        self.name = name
        self.size_bytes = size_bytes
        self.sha256 = sha256


def first_file(environ):
    """The first part that has a file name, measured and hashed piece by piece."""
    match = re.search(r'multipart/form-data;.*boundary="?([^";,]{1,70})', environ.get("CONTENT_TYPE", ""))
    if match is None:
        raise BadForm("the form was not sent as multipart/form-data")
    # The first boundary has no line end before it; with one put there, all of them look alike.
    reader = _Reader(environ["wsgi.input"], b"\r\n--" + match[1].encode("latin-1"))
    reader.skip_part()
    while True:
        name = _file_name(reader.part_head())
        if not name:  # a plain field, or a file field left empty
            reader.skip_part()
            continue
        digest, size_bytes = hashlib.sha256(), 0
        for piece in reader.part():
            digest.update(piece)
            size_bytes += len(piece)
        return Upload(name, size_bytes, digest.hexdigest())


def _file_name(head):
    match = re.search(rb'content-disposition:[^\r\n]*;\s*filename="((?:[^"\\]|\\.)*)"', head, re.IGNORECASE)
    return None if match is None else match[1].decode("utf-8", "replace")


class _Reader:
    """The body, cut at its boundaries; holds at most a piece and a boundary."""

    def __init__(self, stream, boundary):
        self.stream = stream
        self.boundary = boundary
        self.held = b"\r\n"

    def _more(self):
        piece = self.stream.read(PIECE_BYTES)
        if not piece:
            raise BadForm("the form ends in the middle")
        self.held += piece

    def part(self):
        """The bytes up to the next boundary, which is consumed."""
        while True:
            at = self.held.find(self.boundary)
            if at >= 0:
                found, self.held = self.held[:at], self.held[at + len(self.boundary) :]
                yield found
                return
            # The boundary may have begun in the last bytes: they are kept back.
            sure = len(self.held) - len(self.boundary)
            if sure > 0:
                found, self.held = self.held[:sure], self.held[sure:]
                yield found
            self._more()

    def skip_part(self):
        for _ in self.part():
            pass

    def part_head(self):
        """The fields of the part whose boundary has just been consumed."""
        while len(self.held) < 2:
            self._more()
        if self.held.startswith(b"--"):
            raise BadForm("no file was chosen")
        while b"\r\n\r\n" not in self.held:
            if len(self.held) > HEAD_LIMIT_BYTES:
                raise BadForm("a part of the form has too long a head")
            self._more()
        head, self.held = self.held.split(b"\r\n\r\n", 1)
        return head
