"""The clients of one transport: their creation and the state of their connections.

Owns the creation of consumers, producers and the admin client, their callbacks, the log of
librdkafka, and the state of the connection: lost, restored, credentials refused. It must not know
what the clients are used for.

Source: librdkafka INTRODUCTION.md and its sources; JVM `StreamsProducer`, `InternalTopicManager`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import AuthenticationError, BrokerError, ConfigError, TransportError
from thalweg.streams.transport.kafka.errors import CREDENTIALS, is_away, is_tls_refusal, told
from thalweg.streams.transport.kafka.settings import KafkaSettings, credentials_of

_TLS_ATTEMPTS: Final = 2
"""A handshake may break once because the broker is starting; twice it is the settings."""

_QUIET_MS: Final = 10_000
"""While brokers are away, every attempt fails: it is told once in so many milliseconds."""

_TOLD_TWICE: Final = frozenset({"ERROR", "FAIL", "TXNERR"})
"""Lines of librdkafka's log that it also reports as errors."""

LIBRDKAFKA_LOGGER: Final = "thalweg.streams.transport.kafka.transport.librdkafka"
"""The logger that librdkafka's own log goes to; users set its level, see docs/operations.md."""

_log = logging.getLogger(__name__)

C = TypeVar("C")

Credentials: TypeAlias = frozenset[tuple[str, str]]
"""What a client shows to be let in, by setting."""


class ClientLog:
    """Where the log of librdkafka goes: to Python's, at its levels."""

    def __init__(self) -> None:
        self._log = logging.getLogger(LIBRDKAFKA_LOGGER)

    def log(self, level: int, text: str, facility: str, client: str, line: str) -> None:
        """Logs one line; what comes as an error too, for debugging only."""
        self._log.log(
            logging.DEBUG if facility in _TOLD_TWICE else level, text, facility, client, line
        )


class Connection:
    """The connection of one transport to its cluster, by what its clients are told of it.

    Args:
        monotonic_ms: a clock that never goes back.
        went: called when a connection broke that was there.

    Attributes:
        last: the latest error, None after a success.
        refusal: the credentials were refused, or TLS cannot be agreed on.
        is_away: a connection broke, and nothing was answered since.
        is_closed: the transport was closed.
    """

    def __init__(self, monotonic_ms: Callable[[], float], went: Callable[[], None]) -> None:
        self._went = went
        self.last: KafkaError | None = None
        self.refusal: KafkaError | None = None
        self.is_away = self.is_closed = False
        self._refused: Credentials = frozenset()
        self._let_in: set[Credentials] = set()
        self._monotonic_ms = monotonic_ms
        self._quiet_until_ms = 0.0
        self._tls_failures = 0

    def failed(self, fault: KafkaError, credentials: Credentials = frozenset()) -> None:
        """Takes note of an error of any client.

        Args:
            fault: the error.
            credentials: the client's.
        """
        name, now_ms = fault.name(), self._monotonic_ms()
        is_news = now_ms >= self._quiet_until_ms
        if is_news:
            self._quiet_until_ms = now_ms + _QUIET_MS
        _log.log(logging.WARNING if is_news else logging.DEBUG, "%s (%s)", fault.str(), name)
        # "All brokers are down" follows the reason and would hide it.
        if name != "_ALL_BROKERS_DOWN" or self.last is None:
            self.last = fault
        if is_away(fault):
            self.lost()
        # A broker that ends breaks connections in many ways: only a new one tells of certificates.
        if name == "_SSL" or (is_tls_refusal(fault) and credentials not in self._let_in):
            self._tls_failures += 1
        is_refused = name in CREDENTIALS or self._tls_failures >= _TLS_ATTEMPTS
        if is_refused and self.refusal is None:
            self.refusal, self._refused = fault, credentials

    def lost(self) -> None:
        """Takes note that a connection broke."""
        if not self.is_away:
            self.is_away = True
            self._went()

    def reached(self) -> None:
        """Takes note that a broker answered."""
        self.is_away = False

    def forget(self) -> None:
        """Forgets everything: the connection works."""
        self.last = self.refusal = None
        self.is_away = False
        self._tls_failures = 0

    def let_in(self, credentials: Credentials) -> None:
        """Takes note that a broker took these credentials."""
        self._let_in.add(credentials)

    def raise_refusal(self, what: str) -> None:
        """Raises an error if the credentials were refused.

        Raises:
            AuthenticationError: they were never taken.
            BrokerError: they were taken before.
        """
        fault = self.refusal
        if fault is not None:
            # Whoever was let in before need not be wrong: a broker that starts may refuse too.
            kind = BrokerError if self._refused in self._let_in else AuthenticationError
            raise kind(told(what, fault))

    def refuse_closed(self) -> None:
        """Raises TransportError if the transport was closed."""
        if self.is_closed:
            message = "the transport is closed"
            raise TransportError(message)


class Clients:
    """Makes the clients of one transport.

    Args:
        config: the application's settings.
        settings: what the clients are told.
        connection: hears of their errors.
    """

    def __init__(
        self, config: StreamsConfig, settings: KafkaSettings, connection: Connection
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._given = {
            name: getattr(config, name)
            for name in ("consumer_configs", "producer_configs", "admin_configs")
        }

    def consumer(self) -> Consumer:
        """Returns a new consumer, assigned nothing.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        return self._made("consumer_configs", Consumer, self._settings.consumer)

    def producer(self, on_delivery: Callable[[KafkaError | None, Message], None]) -> Producer:
        """Returns a new producer.

        Args:
            on_delivery: hears of records that were not delivered.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        settings = {**self._settings.producer, "on_delivery": on_delivery}
        return self._made("producer_configs", Producer, settings)

    def admin(self) -> AdminClient:
        """Returns a new admin client.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        return self._made("admin_configs", AdminClient, self._settings.admin)

    def _made(
        self,
        mapping: str,
        client: Callable[..., C],
        settings: Mapping[str, Any],
    ) -> C:
        """Makes a client, whose log and errors come to us.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        heard = partial(self._connection.failed, credentials=credentials_of(settings))
        try:
            return client({**settings, "error_cb": heard}, logger=ClientLog())
        except (KafkaException, TypeError, ValueError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            # A setting given for one client may have been taken over by this one.
            origins = (given for given, names in self._given.items() if _names(reason, names))
            raise ConfigError(f"{next(origins, mapping)}: {reason}") from error


def _names(text: str, settings: Mapping[str, Any]) -> bool:
    """Tells whether a text names one of the settings."""
    return any(name in text for name in settings)
