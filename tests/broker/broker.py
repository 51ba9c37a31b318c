"""A real Kafka broker for tests: one node on 127.0.0.1, made when it is needed.

Owns getting hold of one, its settings, its life and its listeners. Two ways lead to it, in this
order: a container, where a Docker engine answers; else the broker's jars, by Maven, on Java 17
(on Debian, as root, both are installed). If neither works, `open_broker` says what was tried.

Listeners, on free ports that stay the same over restarts:
* PLAINTEXT
* SASL, without TLS: SCRAM-SHA-512, user and password below
* SSL: a certificate for 127.0.0.1 and localhost by a CA of its own; clients need one, too

Sessions are short, so that what a member's death means can be seen within seconds.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.waiting import HANG_S

VERSION: Final = "4.2.1"
IMAGE: Final = f"apache/kafka:{VERSION}"
HOST: Final = "127.0.0.1"
GIVEN: Final = "KAFKA_BOOTSTRAP_SERVERS"
"""The environment variable that names a broker for all tests that only use one."""
USER: Final = "thalweg"
PASSWORD: Final = "only-for-tests"
SESSION_MS: Final = 6_000
INTERVAL_MS: Final = 500

_HERE: Final = Path(__file__).parent
_LISTENERS: Final = ("PLAINTEXT", "SASL", "SSL", "CONTROLLER")
_START_SECONDS: Final = HANG_S
_STOP_SECONDS: Final = 60
_JAVA_OPTIONS: Final = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",  # starts in half the time; benchmarks must not use this broker
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


class BrokerUnavailableError(Exception):
    """There is no way to a broker here; the message says what was tried."""


def dying_with_parent(*command: str) -> list[str]:
    """Returns a command that runs `command` and that ends when this process ends.

    Linux sees to it, whatever ended this process; elsewhere it is `command` itself.
    """
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []), *command]


class Broker(ABC):
    """One broker that can be stopped, killed, suspended and started again.

    Args:
        directory: where its data, settings, certificates and log are kept.
        overrides: broker settings that differ from those of this module.

    Attributes:
        node: its number in its cluster.
    """

    node = 1

    def __init__(self, directory: Path, overrides: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
        # Its first six bits are 0, so that it does not begin with a hyphen, as an option does.
        cluster_id = uuid.UUID(int=uuid.uuid4().int >> 6)
        self.cluster = base64.urlsafe_b64encode(cluster_id.bytes).decode().rstrip("=")
        self._overrides = dict(overrides or {})
        directory.mkdir(parents=True, exist_ok=True)

    # -- how to reach it -----------------------------------------------------------------

    def _servers(self, listener: str) -> str:
        return f"{HOST}:{self.ports[listener]}"

    @property
    def bootstrap_servers(self) -> str:
        """The listener without security."""
        return self._servers("PLAINTEXT")

    @property
    def configs(self) -> dict[str, str]:
        """Client settings, by librdkafka's names, for the listener without security."""
        return {"bootstrap.servers": self.bootstrap_servers}

    @property
    def sasl_configs(self) -> dict[str, str]:
        """Client settings for the listener with SASL."""
        return {
            "bootstrap.servers": self._servers("SASL"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }

    @property
    def tls_configs(self) -> dict[str, str]:
        """Client settings for the listener with TLS."""
        return {
            "bootstrap.servers": self._servers("SSL"),
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.directory / "ca.pem"),
            "ssl.certificate.location": str(self.directory / "client.pem"),
            "ssl.key.location": str(self.directory / "client.key"),
        }

    # -- its life ------------------------------------------------------------------------

    def start(self) -> None:
        """Starts it, on the data it has, and waits until it answers.

        Raises:
            BrokerUnavailableError: it does not come up.
        """
        self._launch()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.is_alive():
            if _answers(self.bootstrap_servers):
                return
            time.sleep(0.1)
        tail = self._log_tail()
        how = "does not answer" if self.is_alive() else f"ended ({self.ending()})"
        self.kill()
        raise BrokerUnavailableError(f"the broker {how}; its log ends with:\n{tail}")

    def restart(self) -> None:
        """Stops it in good order and starts it again."""
        self.stop()
        self.start()

    def mend(self) -> None:
        """Lets it run and answer, whatever was done to it."""
        self.resume()
        if not self.is_alive() or not _answers(self.bootstrap_servers):
            self.kill()
            self.start()

    @abstractmethod
    def stop(self) -> None:
        """Stops it in good order. Does nothing if it does not run."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it at once, without any order. Does nothing if it does not run."""

    @abstractmethod
    def suspend(self) -> None:
        """Freezes it: connections stay, answers do not come."""

    @abstractmethod
    def resume(self) -> None:
        """Lets a frozen one go on."""

    @abstractmethod
    def _launch(self) -> None:
        """Starts it without waiting."""

    @abstractmethod
    def is_alive(self) -> bool:
        """Tells whether it runs, or is on the way."""

    @abstractmethod
    def ending(self) -> str:
        """Returns how it ended, where it has."""

    @abstractmethod
    def _log_tail(self) -> str:
        """Returns the end of what it logged."""

    # -- its settings --------------------------------------------------------------------

    def _write_settings(self, *, directory: str, bind: str) -> None:
        """Writes certificates and `server.properties`.

        Args:
            directory: this broker's directory, as the broker sees it.
            bind: the address it listens at.
        """
        _make_certificates(self.directory)
        ports = self.ports
        security = {"PLAINTEXT": "PLAINTEXT", "SASL": "SASL_PLAINTEXT", "SSL": "SSL"}
        replicated_once = (
            "offsets.topic.replication.factor",
            "transaction.state.log.replication.factor",
            "transaction.state.log.min.isr",
            "share.coordinator.state.topic.replication.factor",
            "share.coordinator.state.topic.min.isr",
        )
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(
                f"{name}://{HOST if name == 'CONTROLLER' else bind}:{port}"
                for name, port in ports.items()
            ),
            "advertised.listeners": ",".join(f"{name}://{HOST}:{ports[name]}" for name in security),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}"
                for name, protocol in [*security.items(), ("CONTROLLER", "PLAINTEXT")]
            ),
            "log.dirs": f"{directory}/data",
            # SASL
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            # TLS
            "listener.name.ssl.ssl.keystore.type": "PEM",
            "listener.name.ssl.ssl.keystore.location": f"{directory}/server-keystore.pem",
            "listener.name.ssl.ssl.truststore.type": "PEM",
            "listener.name.ssl.ssl.truststore.location": f"{directory}/ca.pem",
            "listener.name.ssl.ssl.client.auth": "required",
            # one node
            **dict.fromkeys(replicated_once, "1"),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.num.partitions": "1",
            # topics are made on purpose
            "auto.create.topics.enable": "false",
            # groups that settle and notice a death within seconds
            "group.initial.rebalance.delay.ms": "0",
            "group.streams.initial.rebalance.delay.ms": "0",
            "group.streams.min.heartbeat.interval.ms": "100",
            "group.streams.heartbeat.interval.ms": str(INTERVAL_MS),
            "group.streams.min.session.timeout.ms": "2000",
            "group.streams.session.timeout.ms": str(SESSION_MS),
            # a broker that was killed comes back when its registration is over
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "log.segment.delete.delay.ms": "5000",
            # records of tests are as old as they like
            "log.retention.ms": "-1",
            # transactions of the dead end soon
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            **self._overrides,
        }
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.directory / "server.properties").write_text(lines)

    def _format_arguments(self, properties: str) -> list[str]:
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        return ["format", "-t", self.cluster, "-c", properties, "--add-scram", scram]


class JarBroker(Broker):
    """A broker of jars, as a child process.

    Args:
        directory: where its data is kept.
        libraries: the directory of jars.
        overrides: broker settings that differ.
        beside: the first broker of the cluster, whose controller this one obeys.
    """

    def __init__(
        self,
        directory: Path,
        libraries: Path,
        overrides: Mapping[str, str] | None = None,
        *,
        beside: Broker | None = None,
    ) -> None:
        super().__init__(directory, overrides)
        if beside is not None:
            self._join(beside)
        self._libraries = libraries
        self._process: subprocess.Popen[bytes] | None = None
        self._write_settings(directory=str(directory), bind=HOST)
        properties = str(directory / "server.properties")
        storage = [*self._java(), "kafka.tools.StorageTool", *self._format_arguments(properties)]
        formatted = subprocess.run(storage, capture_output=True, text=True, check=False)
        if formatted.returncode:
            raise BrokerUnavailableError(
                f"the storage cannot be formatted: {formatted.stdout}{formatted.stderr}"
            )

    @property
    def pid(self) -> int | None:
        """The process, None if it does not run."""
        return self._process.pid if self._process is not None else None

    def _join(self, first: Broker) -> None:
        self.node, self.cluster = first.node + 1, first.cluster
        listeners = [f"{name}://{HOST}:{self.ports[name]}" for name in _LISTENERS[:-1]]
        self._overrides = {
            "process.roles": "broker",
            "node.id": str(self.node),
            "controller.quorum.voters": f"{first.node}@{HOST}:{first.ports['CONTROLLER']}",
            "listeners": ",".join(listeners),
            **self._overrides,
        }

    def _java(self) -> list[str]:
        return ["java", *_JAVA_OPTIONS, "-cp", f"{self._libraries}/*"]

    def _launch(self) -> None:
        properties = str(self.directory / "server.properties")
        command = dying_with_parent(*self._java(), "kafka.Kafka", properties)
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
            )

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ending(self) -> str:
        """Returns its exit status."""
        return f"status {None if self._process is None else self._process.poll()}"

    def _log_tail(self) -> str:
        lines = (self.directory / "broker.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Asks it to stop; kills it if that takes too long."""
        self.resume()
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kills it."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def suspend(self) -> None:
        """Sends SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Sends SIGCONT."""
        self._signal(signal.SIGCONT)


class ContainerBroker(Broker):
    """A broker in a container.

    Args:
        directory: where its settings are kept; its data stays in the container.
        overrides: broker settings that differ.
    """

    _INSIDE: Final = "/var/tmp/broker"

    def __init__(self, directory: Path, overrides: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, overrides)
        from testcontainers.core.container import DockerContainer

        self._write_settings(directory=self._INSIDE, bind="0.0.0.0")
        properties = f"{self._INSIDE}/server.properties"
        kafka = "/opt/kafka/bin"
        quoted = " ".join(f"'{one}'" for one in self._format_arguments(properties))
        script = (
            f"mkdir -p {self._INSIDE} && cp -r /mnt/broker/. {self._INSIDE} && "
            f"{{ [ -f {self._INSIDE}/data/meta.properties ] || "
            f"{kafka}/kafka-storage.sh {quoted}; }} && "
            f"exec {kafka}/kafka-server-start.sh {properties}"
        )
        container = DockerContainer(IMAGE).with_command(["bash", "-c", script])
        container = container.with_volume_mapping(str(directory), "/mnt/broker", "ro")
        container = container.with_env("KAFKA_HEAP_OPTS", "-Xmx512m")
        for name, port in self.ports.items():
            if name != "CONTROLLER":
                container = container.with_bind_ports(port, port)
        self._container = container
        self._is_created = False

    def _launch(self) -> None:
        if self._is_created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._is_created = True

    def is_alive(self) -> bool:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status in ("created", "running", "restarting", "paused"))

    def ending(self) -> str:
        """Returns what the engine says of it."""
        return str(self._container.get_wrapped_container().status)

    def _log_tail(self) -> str:
        return str(self._container.get_wrapped_container().logs(tail=20).decode(errors="replace"))

    def stop(self) -> None:
        """Stops the container; its data stays."""
        self.resume()
        if self._is_created and self.is_alive():
            self._container.get_wrapped_container().stop(timeout=_STOP_SECONDS)

    def kill(self) -> None:
        """Kills the container; its data stays."""
        self.resume()
        if self._is_created and self.is_alive():
            self._container.get_wrapped_container().kill()

    def suspend(self) -> None:
        """Pauses the container."""
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        """Lets a paused container go on."""
        if self._is_created:
            wrapped = self._container.get_wrapped_container()
            wrapped.reload()
            if wrapped.status == "paused":
                wrapped.unpause()

    def remove(self) -> None:
        """Removes the container with its data."""
        if self._is_created:
            self._container.stop()


@contextlib.contextmanager
def open_broker(overrides: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Gets hold of a broker and starts it; stops it in the end, whatever happens.

    Args:
        overrides: broker settings that differ from those of this module.

    Raises:
        BrokerUnavailableError: no way works; the message says which were tried and why not.
    """
    directory = Path(tempfile.mkdtemp(prefix="thalweg-broker-"))
    broker: Broker | None = None
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, directory, ignore_errors=True)
        broker = _started(directory, overrides)
        ending = broker.remove if isinstance(broker, ContainerBroker) else broker.kill
        atexit.register(ending)
        cleaning.callback(atexit.unregister, ending)
        cleaning.callback(ending)
        try:
            yield broker
        finally:
            broker.resume()


@contextlib.contextmanager
def open_pair(overrides: Mapping[str, str] | None = None) -> Iterator[tuple[Broker, Broker]]:
    """Starts two brokers of one cluster, of jars wherever we are; kills them in the end.

    Args:
        overrides: settings of both that differ from those of this module.

    Raises:
        BrokerUnavailableError: the jars cannot be had, or a broker does not come up.
    """
    with contextlib.ExitStack() as cleaning:

        def start(beside: Broker | None = None) -> Broker:
            directory = Path(tempfile.mkdtemp(prefix="thalweg-broker-"))
            cleaning.callback(shutil.rmtree, directory, ignore_errors=True)
            broker = JarBroker(directory, jars(), overrides, beside=beside)
            cleaning.callback(broker.kill)
            broker.start()
            return broker

        first = start()
        yield first, start(first)


def _started(directory: Path, overrides: Mapping[str, str] | None) -> Broker:
    tried = []
    broker: Broker
    if (reason := _no_docker()) is None:
        try:
            broker = ContainerBroker(directory, overrides)
            broker.start()
            return broker
        except Exception as error:  # whatever the engine says, there is another way
            reason = f"{type(error).__name__}: {error}"
    tried.append(f"container {IMAGE}: {reason}")
    try:
        broker = JarBroker(directory, jars(), overrides)
        broker.start()
        return broker
    except (BrokerUnavailableError, OSError) as error:
        tried.append(f"Kafka {VERSION} by Maven on Java 17: {error}")
    raise BrokerUnavailableError("\n  ".join([_remedy(), *tried]))


def _remedy() -> str:
    """Returns what whoever sees no broker can do; naming one does not help twice."""
    engines = "start a Docker engine, or install Java 17 and Maven. Tried:"
    if given := os.environ.get(GIVEN):
        return (
            f"this test stops, secures or configures a broker, which it does not do to {given} "
            f"({GIVEN}), and there is no way to one of its own; {engines}"
        )
    return (
        f"there is no Kafka broker to test with; set {GIVEN} to one of version {VERSION} or "
        f"newer, {engines}"
    )


def _no_docker() -> str | None:
    """Returns why no Docker engine can be used, None if one answers."""
    # In a process of its own: where no engine answers, the library leaves sockets open.
    question = "import docker; docker.from_env(timeout=5).ping()"
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", question],
        capture_output=True,
        text=True,
        check=False,
    )
    if not asked.returncode:
        return None
    said = asked.stderr.strip().splitlines()
    return f"no Docker engine answers ({said[-1] if said else asked.returncode})"


def jars() -> Path:
    """Returns the directory of the broker's jars; gets them at the first time.

    Raises:
        BrokerUnavailableError: Java or Maven are missing and cannot be installed, or the jars
            cannot be had.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
    libraries = cache / f"kafka-{VERSION}"
    packages = {"java": "default-jre-headless"}
    if not libraries.is_dir():
        packages["mvn"] = "maven"
    _install({name: package for name, package in packages.items() if shutil.which(name) is None})
    _check_java()
    if libraries.is_dir():
        return libraries
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        target = Path(temporary) / "libs"
        got = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={target}", f"-Dkafka.version={VERSION}"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if got.returncode:
            raise BrokerUnavailableError(f"mvn fails: {(got.stdout + got.stderr)[-2000:]}")
        with contextlib.suppress(OSError):  # somebody else was faster
            target.rename(libraries)
    return libraries


def _install(packages: Mapping[str, str]) -> None:
    """Installs Debian's packages for the programs that are missing, given by program."""
    if not packages:
        return
    missing = f"{' and '.join(packages)} not found"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BrokerUnavailableError(f"{missing}; install {' and '.join(packages.values())}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "-y", "install", "--no-install-recommends", *packages.values()],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise BrokerUnavailableError(
                f"{missing}; {' '.join(command)} fails: {done.stderr[-1000:]}"
            )


def _check_java() -> None:
    asked = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', asked.stderr)
    if found is None or int(found[1]) < 17:
        raise BrokerUnavailableError(f"Kafka needs Java 17 or newer; found: {asked.stderr.strip()}")


def _answers(servers: str) -> bool:
    host, port = servers.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=5)
    except (OSError, KafkaException):
        return False
    return True


_handed_out: Final[set[int]] = set()
_handing_out: Final = threading.Lock()


def free_ports(count: int) -> list[int]:
    """Returns ports nobody listens at, below those the system gives to outgoing connections."""
    found: list[int] = []
    with _handing_out:
        for port in range(20_000 + os.getpid() % 1_000 * 10, 32_000):
            if port in _handed_out:
                continue
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind((HOST, port))
                found.append(port)
            if len(found) == count:
                _handed_out.update(found)
                return found
    raise BrokerUnavailableError("there are no free ports")


def _make_certificates(directory: Path) -> None:
    """Makes a CA, and by it a certificate for the broker and one for clients, all in PEM."""

    def openssl(*arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BrokerUnavailableError(f"openssl {arguments[0]} fails: {done.stderr}")

    if shutil.which("openssl") is None:
        _install({"openssl": "openssl"})
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
        "-subj", "/CN=thalweg test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    for name, extensions in (
        ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        common = "basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
        (directory / f"{name}.ext").write_text(f"{common}{extensions}\n")
        openssl(
            "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "30", "-extfile", f"{name}.ext",
        )  # fmt: skip
    both = (directory / "server.key").read_text() + (directory / "server.pem").read_text()
    (directory / "server-keystore.pem").write_text(both)
    for file in directory.glob("*.pem"):
        file.chmod(0o644)
