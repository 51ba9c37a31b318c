"""How to reach a cluster: the settings of the data plane, read for the group's connection.

Owns the names (librdkafka's, so that one set of settings serves both), their values and the TLS
context made of them. A security setting that this connection does not support is refused, never
ignored. It must not know how a connection is made.

Source: librdkafka CONFIGURATION.md.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from thalweg.rebalance.errors import ConnectionSettingsError

DEFAULT_PORT: Final = 9092
SETUP_TIMEOUT_MS: Final = 10_000
"""For a connection with TLS and authentication; also for any request without its own limit."""

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_SECURITY: Final = re.compile(r"(enable\.)?(ssl|sasl)\.")
_KNOWN: Final = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
    }
)
_ADDRESS: Final = re.compile(
    r"(?:[A-Za-z_]+://)?(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:\[\]/]+))(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where the brokers are, and how to be let in.

    Attributes:
        servers: (host, port) of brokers to ask first.
        client_id: the name the broker's log has for this connection.
        protocol: one of `PROTOCOLS`.
        mechanism: one of `MECHANISMS`, None without SASL.
        username: for SASL.
        password: for SASL.
        tls: what TLS needs, None without.
        setup_timeout_ms: how long one connection may take to be made.
    """

    servers: tuple[tuple[str, int], ...]
    client_id: str = "thalweg"
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsSettings | None = None
    setup_timeout_ms: int = SETUP_TIMEOUT_MS

    @classmethod
    def from_configs(cls, configs: Mapping[str, Any]) -> ConnectionSettings:
        """Reads them from settings by librdkafka's names; those of other matters are ignored.

        Raises:
            ConnectionSettingsError: one is missing, unknown or has a value it cannot have.
        """
        known = {name: value for name, value in configs.items() if value is not None}
        for name in known:
            if _SECURITY.match(name) and name not in _KNOWN:
                raise ConnectionSettingsError(
                    f"{name} cannot be honoured by the group's connection; it understands "
                    f"{', '.join(sorted(_KNOWN))}"
                )
        protocol = _choice(known, "security.protocol", PROTOCOLS, "PLAINTEXT")
        mechanism = username = password = None
        if protocol.startswith("SASL_"):
            mechanism = _choice(_one_mechanism(known), "sasl.mechanism", MECHANISMS, None)
            username = _needed(known, "sasl.username", protocol)
            password = _needed(known, "sasl.password", protocol)
        return cls(
            servers=_servers(known),
            client_id=str(known.get("client.id", "thalweg")),
            protocol=protocol,
            mechanism=mechanism,
            username=username,
            password=password,
            tls=_tls(known) if protocol.endswith("SSL") else None,
            setup_timeout_ms=_milliseconds(known, "socket.connection.setup.timeout.ms"),
        )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a TLS context is made of.

    Attributes:
        ca_location: file or directory of certificates to trust; None trusts the system's.
        ca_pem: such certificates as text.
        certificate_location: file of this client's certificate.
        key_location: file of its key; None if the certificate's file has it.
        key_password: of that file.
        checks_name: whether the broker's certificate must have its host name.
        checks_certificate: whether the broker's certificate is checked at all.
    """

    ca_location: str | None = None
    ca_pem: str | None = None
    certificate_location: str | None = None
    key_location: str | None = None
    key_password: str | None = field(default=None, repr=False)
    checks_name: bool = True
    checks_certificate: bool = True

    def context(self) -> ssl.SSLContext:
        """Returns a TLS context; reads the files.

        Raises:
            ConnectionSettingsError: a file cannot be read or is not what it should be.
        """
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        if self.ca_location is not None or self.ca_pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._trust(context)
        context.check_hostname = self.checks_name and self.checks_certificate
        if not self.checks_certificate:
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_location is not None:
            try:
                # Without a password for an encrypted key OpenSSL would ask on the terminal.
                password = self.key_password or ""
                context.load_cert_chain(self.certificate_location, self.key_location, password)
            except (OSError, ValueError) as error:
                raise ConnectionSettingsError(
                    f"ssl.certificate.location {self.certificate_location!r} with "
                    f"ssl.key.location {self.key_location!r} cannot be used: {_reason(error)}"
                ) from error
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        name, shown = ("ssl.ca.pem", "") if self.ca_pem else ("ssl.ca.location", self.ca_location)
        try:
            if self.ca_pem is not None:
                context.load_verify_locations(cadata=self.ca_pem)
            elif self.ca_location is not None and Path(self.ca_location).is_dir():
                context.load_verify_locations(capath=self.ca_location)
            else:
                context.load_verify_locations(cafile=self.ca_location)
        except (OSError, ValueError) as error:
            raise ConnectionSettingsError(
                f"{name} {shown!r} cannot be used: {_reason(error)}"
            ) from error


def _servers(configs: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    given = str(configs.get("bootstrap.servers", configs.get("metadata.broker.list", "")))
    servers = []
    for text in filter(None, (one.strip() for one in given.split(","))):
        found = _ADDRESS.fullmatch(text)
        port = DEFAULT_PORT if found is None or found["port"] is None else int(found["port"])
        if found is None or not 0 < port < 1 << 16:
            raise ConnectionSettingsError(
                f"bootstrap.servers has {text!r}, which is not host:port; write brokers as "
                "host:port,host:port"
            )
        servers.append((found["v6"] or found["host"], port))
    if not servers:
        raise ConnectionSettingsError("bootstrap.servers is not set: name at least one host:port")
    return tuple(dict.fromkeys(servers))


def _tls(configs: Mapping[str, Any]) -> TlsSettings:
    algorithm = str(configs.get("ssl.endpoint.identification.algorithm", "https")).lower()
    if algorithm not in ("https", "none", ""):
        raise ConnectionSettingsError(
            f"ssl.endpoint.identification.algorithm is {algorithm!r}; it takes https or none"
        )

    def text(name: str) -> str | None:
        return str(configs[name]) if configs.get(name) else None

    return TlsSettings(
        ca_location=text("ssl.ca.location"),
        ca_pem=text("ssl.ca.pem"),
        certificate_location=text("ssl.certificate.location"),
        key_location=text("ssl.key.location"),
        key_password=text("ssl.key.password"),
        checks_name=algorithm == "https",
        checks_certificate=str(configs.get("enable.ssl.certificate.verification", True)).lower()
        != "false",
    )


def _one_mechanism(configs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Puts the two names of the mechanism together."""
    names = [name for name in ("sasl.mechanism", "sasl.mechanisms") if name in configs]
    if len({str(configs[name]).upper() for name in names}) > 1:
        raise ConnectionSettingsError(
            f"sasl.mechanism is {configs['sasl.mechanism']!r} and sasl.mechanisms is "
            f"{configs['sasl.mechanisms']!r}; leave one out"
        )
    return {"sasl.mechanism": configs[names[0]]} if names else {}


def _choice(
    configs: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str | None
) -> str:
    given = configs.get(name, default)
    value = "" if given is None else str(given).upper()
    if value not in choices:
        raise ConnectionSettingsError(
            f"{name} is {'not set' if given is None else repr(given)}; the group's connection "
            f"takes {', '.join(choices)}"
        )
    return value


def _needed(configs: Mapping[str, Any], name: str, protocol: str) -> str:
    if name not in configs:
        raise ConnectionSettingsError(f"{name} is not set, but security.protocol is {protocol}")
    return str(configs[name])


def _milliseconds(configs: Mapping[str, Any], name: str) -> int:
    given = configs.get(name, SETUP_TIMEOUT_MS)
    try:
        value = int(given)
    except (TypeError, ValueError):
        value = 0
    if value < 1:
        raise ConnectionSettingsError(f"{name} is {given!r}; it takes milliseconds, 1 or more")
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
