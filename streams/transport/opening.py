"""Opens the log of an application by its settings.

Owns only the choice. The libraries of Kafka and RocksDB take some time to load, so only the one
that is used is loaded. It must not know who opens a transport or why.

Source: design 4.
"""

from __future__ import annotations

from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.transport.port import Transport


def open_transport(config: StreamsConfig, clock: Clock) -> Transport:
    """Opens the log the settings name, for an application; its caller closes it.

    Each caller has a transport of its own. Those of one process share the embedded log. On
    Kafka it is no member of the application's group: for producers, readers and tools.

    Raises:
        ConfigError: the settings name a log that cannot be opened.
        StoreLockedError: another process owns the embedded log.
        BrokerError: the cluster cannot be reached, or refuses the credentials.
    """
    if config.bootstrap_servers is not None:
        from thalweg.streams.transport.kafka.transport import KafkaTransport  # noqa: PLC0415

        return KafkaTransport(config, clock=clock)
    from thalweg.streams.transport.through_owner import open_own_log  # noqa: PLC0415

    return open_own_log(config, clock)


def open_client_transport(config: StreamsConfig, clock: Clock) -> Transport:
    """Opens the log the settings name, to write and to read records; its caller closes it.

    As `open_transport`, but an embedded log that another process owns is used through that one.

    Raises:
        ConfigError: the settings name a log that cannot be opened.
        StoreLockedError: another process owns the embedded log and does not answer.
        BrokerError: the cluster cannot be reached, or refuses the credentials.
    """
    if config.bootstrap_servers is not None:
        return open_transport(config, clock)
    from thalweg.streams.transport.through_owner import open_log_or_owner  # noqa: PLC0415

    return open_log_or_owner(config, clock)
