"""Client certificates: who gets in, and what the application learns of them."""

import json
import ssl

import pytest
from support.certificates import TlsWire, certificate, client, openssl, signed

SUBJECT = r"/C=DE/O=Käserei, Müller\+Sohn/CN=client 7"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The certificates of the server, of an authority and of clients."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = certificate(directory, "authority", subject="/O=Shop/CN=Our CA", authority=True)
    foreign = certificate(directory, "foreign", authority=True)
    alternatives = "subjectAltName=DNS:seven.test,email:seven@shop.test,DNS:7.test"
    return {
        "server": certificate(directory, "server"),
        "authority": authority,
        "good": signed(directory, "good", authority, SUBJECT, alternatives),
        "foreign": signed(directory, "other", foreign, "/CN=client 7"),
    }


def secured(serve, made, requirement):
    authority = made["authority"].certificate
    return serve("plain:app", *made["server"].options, "--ca-certs", authority, "--cert-reqs", requirement).ready()


def environ(server, made, own=None, version=None):
    with TlsWire(server.port, client(made["server"], own and made[own], version)) as wire:
        return json.loads(wire.get("/headers").response().body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_required_lets_only_clients_of_the_authority_in(serve, made, version):
    server = secured(serve, made, "required")
    assert environ(server, made, "good", version)["SSL_CLIENT_VERIFY"] == "SUCCESS"
    for own, reason in ((None, "peer sent no certificates"), ("foreign", "invalid peer certificate")):
        since = server.position()
        # With TLS 1.3, the client learns of it only when it reads.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            environ(server, made, own, version)
        assert server.wait_for("tls.handshake_failed", since=since).pairs["reason"].startswith(reason)
    assert environ(server, made, "good", version)["SSL_CLIENT_VERIFY"] == "SUCCESS"


def test_optional_serves_clients_without_a_certificate_but_no_bad_one(serve, made):
    server = secured(serve, made, "1")
    assert environ(server, made)["SSL_CLIENT_VERIFY"] == "NONE"
    assert environ(server, made, "good")["SSL_CLIENT_VERIFY"] == "SUCCESS"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        environ(server, made, "foreign")


@pytest.mark.smoke
def test_environ_describes_the_certificate_as_openssl_does(serve, made):
    seen = environ(secured(serve, made, "required"), made, "good")
    shown = lambda *what: openssl("x509", "-in", made["good"].certificate, "-noout", *what).decode().strip()  # noqa: E731
    assert seen["SSL_CLIENT_M_SERIAL"] == shown("-serial").removeprefix("serial=")
    assert seen["SSL_CLIENT_V_START"] == shown("-startdate").removeprefix("notBefore=")
    assert seen["SSL_CLIENT_V_END"] == shown("-enddate").removeprefix("notAfter=")
    assert seen["SSL_CLIENT_I_DN"] == shown("-issuer", "-nameopt", "RFC2253").removeprefix("issuer=")
    subject = shown("-subject", "-nameopt", "RFC2253,-esc_msb").removeprefix("subject=")
    # The bytes are UTF-8 in a native string (PEP 3333).
    assert seen["SSL_CLIENT_S_DN"].encode("latin-1").decode() == subject == r"CN=client 7,O=Käserei\, Müller\+Sohn,C=DE"
    assert seen["SSL_CLIENT_S_DN_CN"] == "client 7"
    assert [seen["SSL_CLIENT_SAN_DNS_0"], seen["SSL_CLIENT_SAN_DNS_1"]] == ["seven.test", "7.test"]
    assert seen["SSL_CLIENT_SAN_Email_0"] == "seven@shop.test"
    assert openssl("x509", input=seen["SSL_CLIENT_CERT"].encode()) == openssl("x509", "-in", made["good"].certificate)


def test_a_resumed_session_keeps_its_certificate(serve, made):
    server = secured(serve, made, "required")
    context = client(made["server"], made["good"])
    with TlsWire(server.port, context) as wire:
        first = json.loads(wire.get("/headers").response().body)
        session = wire.socket.session
    with TlsWire(server.port, context, session=session) as wire:
        second = json.loads(wire.get("/headers").response().body)
    assert second["SSL_SESSION_RESUMED"] == "Resumed"
    of_client = lambda seen: {name: value for name, value in seen.items() if name.startswith("SSL_CLIENT_")}  # noqa: E731
    assert of_client(first) == of_client(second)
