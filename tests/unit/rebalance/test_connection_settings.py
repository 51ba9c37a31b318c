"""Settings of the group's connection, by the names of the data plane's."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from thalweg.rebalance.connection_settings import ConnectionSettings, TlsSettings
from thalweg.rebalance.errors import ConnectionSettingsError

SASL = {
    "bootstrap.servers": "h:1",
    "security.protocol": "sasl_plaintext",
    "sasl.mechanism": "scram-sha-512",
    "sasl.username": "u",
    "sasl.password": "secret",
}


def settings(**configs: Any) -> ConnectionSettings:
    named = {name.replace("_", "."): value for name, value in configs.items()}
    return ConnectionSettings.from_configs({"bootstrap.servers": "h:1", **named})


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("localhost", [("localhost", 9092)]),
        ("a:1, b:2 ,,a:1", [("a", 1), ("b", 2)]),
        ("[::1]:9", [("::1", 9)]),
        ("[::1]", [("::1", 9092)]),
        ("PLAINTEXT://a:1,SSL://b", [("a", 1), ("b", 9092)]),
    ],
)
def test_brokers_are_named_by_host_and_port(text: str, servers: list[tuple[str, int]]) -> None:
    assert settings(bootstrap_servers=text).servers == tuple(servers)


@pytest.mark.parametrize("text", ["a:b", "a:0", "a:70000", "a b:1", "http://a/b:1", "::1:9"])
def test_what_is_no_broker_is_refused(text: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="is not host:port"):
        settings(bootstrap_servers=text)


@pytest.mark.parametrize("configs", [{}, {"bootstrap.servers": " , "}])
def test_brokers_must_be_named(configs: Mapping[str, str]) -> None:
    with pytest.raises(ConnectionSettingsError, match=r"bootstrap\.servers is not set"):
        ConnectionSettings.from_configs(configs)


def test_the_older_name_of_the_brokers_works() -> None:
    found = ConnectionSettings.from_configs({"metadata.broker.list": "a:1"})

    assert found.servers == (("a", 1),)


def test_without_security_nothing_else_is_needed() -> None:
    found = settings(fetch_min_bytes=1, linger_ms=5)

    assert (found.protocol, found.mechanism, found.tls) == ("PLAINTEXT", None, None)
    assert found.client_id == "thalweg"


def test_sasl_is_read_under_both_names_in_either_case() -> None:
    found = ConnectionSettings.from_configs(SASL)
    other = {name: value for name, value in SASL.items() if name != "sasl.mechanism"}

    assert (found.protocol, found.mechanism) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert (found.username, found.password) == ("u", "secret")
    assert ConnectionSettings.from_configs({**other, "sasl.mechanisms": "SCRAM-SHA-512"}) == found


def test_a_password_is_not_shown() -> None:
    tls = {"ssl.key.password": "secret", "security.protocol": "sasl_ssl"}

    assert "secret" not in repr(ConnectionSettings.from_configs({**SASL, **tls}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"security.protocol": "TLS"}, "security.protocol is 'TLS'"),
        ({"sasl.mechanism": "GSSAPI"}, "takes PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"sasl.mechanism": None}, "sasl.mechanism is not set"),
        ({"sasl.mechanisms": "PLAIN"}, "leave one out"),
        ({"sasl.username": None}, "sasl.username is not set"),
        ({"sasl.password": None}, "sasl.password is not set"),
        ({"sasl.oauthbearer.config": "x"}, "sasl.oauthbearer.config cannot be honoured"),
        ({"ssl.cipher.suites": "x"}, "ssl.cipher.suites cannot be honoured"),
        ({"enable.sasl.oauthbearer.unsecure.jwt": "true"}, "cannot be honoured"),
        ({"socket.connection.setup.timeout.ms": "soon"}, "takes milliseconds"),
        ({"socket.connection.setup.timeout.ms": 0}, "takes milliseconds"),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConnectionSettingsError, match=words):
        ConnectionSettings.from_configs({**SASL, **changes})


def test_tls_is_read() -> None:
    found = ConnectionSettings.from_configs(
        {
            **SASL,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": "ca",
            "ssl.certificate.location": "cert",
            "ssl.key.location": "key",
            "ssl.key.password": "p",
            "ssl.endpoint.identification.algorithm": "none",
        }
    )

    assert found.tls == TlsSettings("ca", None, "cert", "key", "p", checks_name=False)


def test_tls_settings_without_tls_do_no_harm() -> None:
    assert settings(ssl_ca_location="ca").tls is None


def test_an_algorithm_that_is_none_is_refused() -> None:
    with pytest.raises(ConnectionSettingsError, match="it takes https or none"):
        settings(security_protocol="ssl", ssl_endpoint_identification_algorithm="maybe")


# Contexts.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, `ca.pem`, and its key, `ca.key`."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "2",
            "-subj",
            "/CN=x",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [
            "openssl",
            "ec",
            "-in",
            "ca.key",
            "-aes256",
            "-passout",
            "pass:open",
            "-out",
            "locked.key",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return directory


def test_a_context_checks_certificate_and_name() -> None:
    context = TlsSettings().context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_checks_can_be_turned_off() -> None:
    unnamed = settings(security_protocol="ssl", ssl_endpoint_identification_algorithm="none")
    unchecked = settings(security_protocol="ssl", enable_ssl_certificate_verification="false")
    assert unnamed.tls is not None
    assert unchecked.tls is not None

    assert unnamed.tls.context().verify_mode is ssl.CERT_REQUIRED
    assert not unnamed.tls.context().check_hostname
    assert unchecked.tls.context().verify_mode is ssl.CERT_NONE


def test_only_the_given_certificates_are_trusted(certificate: Path) -> None:
    file = certificate / "ca.pem"
    for tls in (TlsSettings(ca_location=str(file)), TlsSettings(ca_pem=file.read_text())):
        assert len(tls.context().get_ca_certs()) == 1
    assert TlsSettings(ca_location=str(certificate)).context().get_ca_certs() == []


def test_a_client_has_a_certificate(certificate: Path) -> None:
    file, key = str(certificate / "ca.pem"), str(certificate / "ca.key")
    locked = str(certificate / "locked.key")

    TlsSettings(certificate_location=file, key_location=key).context()
    TlsSettings(certificate_location=file, key_location=locked, key_password="open").context()


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"ca_location": "missing"}, "ssl.ca.location 'missing' cannot be used: No such file"),
        ({"ca_location": "ca.key"}, "ssl.ca.location"),
        ({"ca_pem": "nonsense"}, "ssl.ca.pem"),
        ({"certificate_location": "missing"}, "ssl.certificate.location 'missing'"),
        ({"certificate_location": "ca.pem"}, "ssl.certificate.location 'ca.pem'"),
        ({"certificate_location": "ca.pem", "key_location": "locked.key"}, "'locked.key'"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    tls: Mapping[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(certificate)

    with pytest.raises(ConnectionSettingsError, match=words):
        TlsSettings(**tls).context()
