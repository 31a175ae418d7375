"""Certificates made by openssl, and clients that use them."""

import socket
import ssl
import subprocess
from typing import NamedTuple

from support.wire import PATIENCE_S, Ended, Wire

KEYS = {
    "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["-newkey", "rsa:2048"],
    "ed25519": ["-newkey", "ed25519"],
}


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    certificate: object
    key: object

    @property
    def options(self):
        """The options of a server with this certificate."""
        return ("--certfile", self.certificate, "--keyfile", self.key)


def openssl(*arguments, **options):
    """Runs openssl, and returns its output."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S, **options).stdout


def certificate(directory, name, *hosts, key="ec", subject=None, authority=False, days=30):
    """Makes a certificate for these hosts that signs itself."""
    made = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    alternatives = ",".join(f"DNS:{host}" for host in hosts or ("localhost",))
    openssl(
        *("req", "-x509", *KEYS[key], "-nodes", "-days", days, "-subj", subject or f"/CN={name}"),
        *("-keyout", made.key, "-out", made.certificate, "-addext", f"subjectAltName={alternatives}"),
        *("-addext", f"basicConstraints=critical,CA:{'TRUE' if authority else 'FALSE'}"),
    )
    return made


def signed(directory, name, by, subject, extensions="", days=30):
    """Makes a client's certificate that another one signs."""
    made = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    request, configuration = directory / f"{name}.csr", directory / f"{name}.cnf"
    configuration.write_text(f"basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n{extensions}\n")
    openssl("req", *KEYS["ec"], "-nodes", "-utf8", "-subj", subject, "-keyout", made.key, "-out", request)
    openssl(
        *("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial"),
        *("-days", days, "-extfile", configuration, "-out", made.certificate),
    )
    return made


def client(trusted, own=None, version=None):
    """Returns the configuration of a client that trusts a certificate, and has one of its own."""
    context = ssl.create_default_context(cafile=str(trusted.certificate))
    context.set_alpn_protocols(["http/1.1"])
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsWire(Wire):
    """One connection with TLS, which tells an orderly end from a truncated one."""

    def __init__(self, port, context, host="localhost", session=None, **options):
        super().__init__(("127.0.0.1", port), **options)
        try:
            self.socket = context.wrap_socket(
                self.socket, server_hostname=host, session=session, suppress_ragged_eofs=False
            )
        except OSError:
            self.socket.close()
            raise

    def more(self):
        """Receives the next bytes. A stream that ends without close_notify counts as a reset."""
        try:
            super().more()
        except ssl.SSLEOFError:
            raise Ended(self.held, True) from None


class MemoryClient:
    """A client whose bytes the test moves itself."""

    def __init__(self, port, context, host="localhost"):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def pending(self):
        """Returns the ciphertext that is to be sent."""
        return self.outgoing.read()

    def receive(self):
        """Passes what has arrived to TLS, and returns whether the stream goes on."""
        came = self.socket.recv(1 << 16)
        self.incoming.write(came) if came else self.incoming.write_eof()
        return bool(came)

    def handshake(self, send=None):
        """Completes the handshake. `send` sends the bytes in a manner of its own."""
        while True:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            if pending := self.pending():
                (send or self.socket.sendall)(pending)
            if done:
                return self
            self.receive()

    def encrypted(self, data):
        """Returns the ciphertext of `data`."""
        self.tls.write(data)
        return self.pending()

    def read_until(self, mark):
        """Returns the plaintext up to the bytes `mark`, and what came behind them."""
        held = b""
        while mark not in held:
            try:
                held += self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                assert self.receive(), f"ended after {held[:200]!r}"
        return held
