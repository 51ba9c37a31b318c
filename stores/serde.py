"""Serdes: how keys and values become bytes and come back.

Owns the `Serde` face, the built-in serdes with the JVM's bytes, and what the record cache
must know of a serde before it keeps values decoded. It must not know stores or topics; a
topic's name is handed in because a serde may depend on it (a schema registry does).

A serialiser refuses what is not of its type instead of writing something another reader
would stumble over. None never reaches a serde: no key and no value are no bytes.

Source: JVM `org.apache.kafka.common.serialization.Serdes`, `WindowedSerdes`.
"""

from __future__ import annotations

import builtins
import types
import uuid as uuid_module
from abc import ABC, abstractmethod
from collections.abc import Callable
from struct import Struct
from typing import (
    Any,
    Final,
    Generic,
    TypeVar,
    Union,
    final,
    get_args,
    get_origin,
    is_typeddict,
    overload,
)

import msgspec
from msgspec import inspect

from stores.errors import DeserializationError, SerializationError
from stores.formats import decode_windowed_key, encode_windowed_key
from stores.windowed import FOREVER_MS, TimeWindow, Windowed

T = TypeVar("T")
U = TypeVar("U")

_HEAD_BYTES: Final = 8


class Serde(ABC, Generic[T]):
    """Turns values of one type into bytes and back. Thread-safe, stateless.

    Attributes:
        keyable: keys are hashable, and two keys are equal if and only if their bytes are.
            Only then may the cache find a row by the key itself.
        immutable: nobody can change a value in place. Only then may the cache keep values
            decoded.
        fixed_size_bytes: length of every value's bytes, None if it varies.
        value_type: the type of the values it reads, a union of several; None where that is not
            known, as of a serde of two functions that does not say it.
    """

    keyable: bool = False
    immutable: bool = False
    fixed_size_bytes: int | None = None
    value_type: Any = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values for a topic (or a store's changelog).

        The function raises SerializationError for what is not of the serde's type.
        """

    @abstractmethod
    def deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the function that reads values of a topic.

        The function raises DeserializationError for bytes the serde cannot have written.
        """

    def bare_serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the fastest function that writes right values; for the runtime.

        What it does with a wrong value is to raise anything: the caller catches that and asks
        the function of `serializer` for the error to show.
        """
        return self.serializer(topic)

    def bare_deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the fastest function that reads right bytes; see `bare_serializer`."""
        return self.deserializer(topic)

    @staticmethod
    def of(
        serialize: Callable[[U], bytes],
        deserialize: Callable[[bytes], U],
        *,
        name: str,
        keyable: bool = False,
        immutable: bool = False,
        fixed_size_bytes: int | None = None,
        value_type: builtins.type[U] | None = None,
    ) -> Serde[U]:
        """Makes a serde of two functions.

        Args:
            serialize: value -> bytes; raises for what it does not take.
            deserialize: bytes -> value; raises for what it does not understand.
            name: what messages call it.
            keyable: see `Serde`; wrongly given, rows get mixed up.
            immutable: see `Serde`; wrongly given, old values are wrong.
            fixed_size_bytes: see `Serde`.
            value_type: see `Serde`.
        """
        return _Functions(
            name,
            serialize,
            deserialize,
            keyable=keyable,
            immutable=immutable,
            fixed_size_bytes=fixed_size_bytes,
            value_type=value_type,
        )

    def __repr__(self) -> str:
        return f"<serde {self.name}>"


def may_be(known: Any, asked: Any) -> bool:
    """Tells whether values of a serde may be of a type; true where nothing says that they are not.

    Args:
        known: the serde's `value_type`.
        asked: a class, a generic alias, a union or Any.
    """
    asked = getattr(asked, "__supertype__", asked)  # of a NewType
    if known is None or asked is Any or asked == known:
        return True
    if _is_union(known):
        return any(may_be(_class_of(one), asked) for one in get_args(known))
    if _is_union(asked):
        return any(may_be(known, _class_of(one)) for one in get_args(asked))
    known_class, asked_class = _class_of(known), _class_of(asked)
    if get_args(known) and get_args(asked) and known_class is asked_class:
        return bool(get_args(known) == get_args(asked))
    try:
        return issubclass(known_class, asked_class)
    except TypeError:  # a typed dict, or a protocol that cannot be asked
        return is_typeddict(asked) and known_class is dict


def type_name(type_: Any) -> str:
    """Returns how a type is written."""
    return type_.__name__ if isinstance(type_, type) and not get_args(type_) else str(type_)


def _is_union(type_: Any) -> bool:
    return isinstance(type_, types.UnionType) or get_origin(type_) is Union


def _class_of(type_: Any) -> Any:
    return get_origin(type_) or type_


def _unwritable(serde: Serde[Any], topic: str, value: object, wanted: str) -> SerializationError:
    return SerializationError(
        f"serde {serde.name} cannot write a value of type {type(value).__name__}: it takes "
        f"{wanted}; give the operator or store the serde of its type "
        "(key_serde=, value_serde=)",
        topic=topic or None,
    )


def _unreadable(serde: Serde[Any], topic: str, data: object, why: object) -> DeserializationError:
    shown = f"a {type(data).__name__}"
    if isinstance(data, bytes):
        more = " …" if len(data) > _HEAD_BYTES else ""
        shown = f"{len(data)} bytes ({data[:_HEAD_BYTES].hex(' ')}{more})"
    return DeserializationError(
        f"serde {serde.name} cannot read {shown}: {why}; give the source or store the serde "
        "its bytes were written with (key_serde=, value_serde=)",
        topic=topic or None,
    )


class _Functions(Serde[T]):
    """A serde of two functions that do not ask for the topic.

    The functions are called as they are; only what they raise is looked at.
    """

    def __init__(
        self,
        name: str,
        serialize: Callable[[T], bytes],
        deserialize: Callable[[bytes], T],
        *,
        wanted: str = "what its serialize function takes",
        keyable: bool = False,
        immutable: bool = False,
        fixed_size_bytes: int | None = None,
        value_type: Any = None,
    ) -> None:
        self._name = name
        self._serialize = serialize
        self._deserialize = deserialize
        self._wanted = wanted
        self.keyable = keyable
        self.immutable = immutable
        self.fixed_size_bytes = fixed_size_bytes
        self.value_type = value_type

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    def serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values."""
        serialize = self._serialize

        def encode(value: T) -> bytes:
            try:
                return serialize(value)
            except SerializationError:
                raise
            except Exception as error:
                raise _unwritable(self, topic, value, self._wanted) from error

        return encode

    def deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the function that reads values."""
        deserialize = self._deserialize

        def decode(data: bytes) -> T:
            try:
                return deserialize(data)
            except DeserializationError:
                raise
            except Exception as error:
                raise _unreadable(self, topic, data, error) from error

        return decode

    def bare_serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function itself."""
        return self._serialize

    def bare_deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the function itself."""
        return self._deserialize


# -- the JVM's basic types -----------------------------------------------------------------


def _bytes_of(value: bytes) -> bytes:
    if value.__class__ is not bytes:
        raise TypeError
    return value


_TRUE: Final = b"\x01"
_FALSE: Final = b"\x00"


def _bool_to_bytes(value: bool) -> bytes:
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    raise TypeError


def _bool_of(data: bytes) -> bool:
    if data == _TRUE:
        return True
    if data == _FALSE:
        return False
    raise ValueError("a bool is one byte, 0 or 1")


def _uuid_to_bytes(value: uuid_module.UUID) -> bytes:
    if not isinstance(value, uuid_module.UUID):
        raise TypeError
    return str(value).encode()


def _uuid_of(data: bytes) -> uuid_module.UUID:
    return uuid_module.UUID(data.decode())


def _number(name: str, layout: str, wanted: str, type_: type, *, keyable: bool) -> Serde[Any]:
    form = Struct(layout)
    unpack = form.unpack

    def number_of(data: bytes) -> Any:
        (value,) = unpack(data)
        return value

    return _Functions(
        name,
        form.pack,
        number_of,
        wanted=wanted,
        keyable=keyable,
        immutable=True,
        fixed_size_bytes=form.size,
        value_type=type_,
    )


# -- JSON and msgpack ----------------------------------------------------------------------

_ATOMS: Final = (
    inspect.BoolType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.FloatType,
    inspect.IntType,
    inspect.LiteralType,
    inspect.NoneType,
    inspect.StrType,
    inspect.TimeDeltaType,
    inspect.TimeType,
    inspect.UUIDType,
)


def _is_immutable(info: inspect.Type, seen: set[int]) -> bool:
    """Tells whether no value of a type can be changed in place, all the way down."""
    if id(info) in seen or isinstance(info, _ATOMS):
        return True
    seen.add(id(info))
    parts: tuple[inspect.Type, ...]
    if isinstance(info, inspect.TupleType):
        parts = info.item_types
    elif isinstance(info, inspect.VarTupleType | inspect.FrozenSetType):
        parts = (info.item_type,)
    elif isinstance(info, inspect.UnionType):
        parts = info.types
    elif isinstance(info, inspect.NamedTupleType):
        parts = tuple(field.type for field in info.fields)
    elif isinstance(info, inspect.StructType):
        if not info.cls.__struct_config__.frozen:
            return False
        parts = tuple(field.type for field in info.fields)
    elif isinstance(info, inspect.DataclassType):
        if not getattr(info.cls, "__dataclass_params__").frozen:  # noqa: B009 - typeshed has none
            return False
        parts = tuple(field.type for field in info.fields)
    else:
        return False
    return all(_is_immutable(part, seen) for part in parts)


def _class_to_check(type_: Any) -> Any:
    """Returns the class (or classes) a serialiser takes; None where no class tells."""
    if type_ is float:
        return (float, int)
    if is_typeddict(type_):
        return dict
    if isinstance(type_, builtins.type):
        return type_
    origin = getattr(type_, "__origin__", None)
    return origin if isinstance(origin, builtins.type) else None


_JSON_VALUES: Final = dict | list | str | int | float | bool | None


@final
class _Schemaless(Serde[Any]):
    """JSON or msgpack of whatever comes; called with a type, a serde of that type.

    Without a type, values are read as dict, list, str, int, float, bool (and bytes, by
    msgpack).
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._name: str = module.__name__.rpartition(".")[2]
        self._inner = _typed(module, self._name, Any, "what msgspec can encode")
        self.value_type = _JSON_VALUES if module is msgspec.json else _JSON_VALUES | bytes

    @overload
    def __call__(self, type: builtins.type[T], /) -> Serde[T]: ...
    @overload
    def __call__(self, type: Any, /) -> Serde[Any]: ...
    def __call__(self, type: Any, /) -> Serde[Any]:
        """Returns the serde of one type: a `msgspec.Struct`, dataclass, tuple, union, ….

        Equal for the same type. Values are kept decoded in the cache if the type cannot
        change in place: frozen structs and dataclasses, tuples, and what they are made of.

        Args:
            type: anything msgspec can decode to.

        Raises:
            TypeError: msgspec cannot.
        """
        shown = type.__name__ if isinstance(type, builtins.type) else str(type)
        return _typed(self._module, f"{self._name}({shown})", type, f"a value of type {shown}")

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    def serializer(self, topic: str) -> Callable[[Any], bytes]:
        """Returns the function that writes values."""
        return self._inner.serializer(topic)

    def deserializer(self, topic: str) -> Callable[[bytes], Any]:
        """Returns the function that reads values."""
        return self._inner.deserializer(topic)


@final
class _Typed(_Functions[T]):
    """JSON or msgpack of one type."""

    def __init__(self, name: str, module: Any, type_: Any, **functions: Any) -> None:
        super().__init__(name, value_type=None if type_ is Any else type_, **functions)
        self._identity = (module.__name__, type_)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Typed) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity[0])


def _typed(module: Any, name: str, type_: Any, wanted: str) -> Serde[Any]:
    # Sorted, so that equal keys are the same bytes and go to the same partition.
    write = module.Encoder(order="deterministic").encode
    read = module.Decoder(type_).decode
    checked = None if type_ is Any else _class_to_check(type_)
    if checked is None:
        return _Typed(name, module, type_, serialize=write, deserialize=read, wanted=wanted)

    def serialize(value: Any) -> bytes:
        # The reader decodes to this class, and the cache may rely on what it is.
        if not isinstance(value, checked):
            raise TypeError
        encoded: bytes = write(value)
        return encoded

    immutable = _is_immutable(inspect.type_info(type_), set())
    return _Typed(
        name,
        module,
        type_,
        serialize=serialize,
        deserialize=read,
        wanted=wanted,
        immutable=immutable,
    )


# -- windowed keys -------------------------------------------------------------------------


@final
class WindowedSerde(Serde[Windowed[T]]):
    """Keys of windowed results on a topic; see `stores.formats.encode_windowed_key`.

    Only the window's start is written. Its end is the start plus the size of the serde.

    Not keyable: windows of unlike ends have the same bytes.

    Attributes:
        inner: the serde of the key within.
        window_size_ms: size of the windows read.
    """

    def __init__(self, inner: Serde[T], window_size_ms: int) -> None:
        if window_size_ms < 1:
            message = f"window_size_ms must be at least 1, got {window_size_ms}"
            raise ValueError(message)
        self.inner = inner
        self.window_size_ms = window_size_ms
        self.value_type = Windowed
        self.immutable = inner.immutable
        if inner.fixed_size_bytes is not None:
            self.fixed_size_bytes = inner.fixed_size_bytes + 8

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"windowed({self.inner.name}, {self.window_size_ms} ms)"

    def serializer(self, topic: str) -> Callable[[Windowed[T]], bytes]:
        """Returns the function that writes windowed keys."""
        encode_inner = self.inner.serializer(topic)

        def encode(windowed: Windowed[T]) -> bytes:
            if not isinstance(windowed, Windowed):
                raise _unwritable(self, topic, windowed, "a Windowed key")
            return encode_windowed_key(encode_inner(windowed.key), windowed.window.start_ms)

        return encode

    def deserializer(self, topic: str) -> Callable[[bytes], Windowed[T]]:
        """Returns the function that reads windowed keys."""
        decode_inner, size_ms = self.inner.deserializer(topic), self.window_size_ms

        def decode(data: bytes) -> Windowed[T]:
            try:
                key, start = decode_windowed_key(data)
            except DeserializationError as error:
                raise _unreadable(self, topic, data, error) from error
            if not 0 <= start < FOREVER_MS:
                raise _unreadable(self, topic, data, f"a window cannot start at {start}")
            return Windowed(decode_inner(key), TimeWindow(start, min(start + size_ms, FOREVER_MS)))

        return decode

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WindowedSerde)
            and self.inner == other.inner
            and self.window_size_ms == other.window_size_ms
        )

    def __hash__(self) -> int:
        return hash((self.inner, self.window_size_ms))


@final
class Serdes:
    """The built-in serdes; use them through `serdes`.

    Attributes:
        bytes: bytes as they are.
        string: str in UTF-8.
        int32: int in 4 bytes, big endian, two's complement.
        int64: int in 8 bytes, big endian, two's complement.
        float64: float in 8 bytes, big endian, IEEE 754; not for keys of which some are NaN.
        bool: one byte, 1 or 0.
        uuid: `uuid.UUID` as its text of 36 characters.
        json: JSON of whatever comes, or `json(Order)`: JSON of one type.
        msgpack: likewise in msgpack.
    """

    bytes: Final[Serde[builtins.bytes]] = _Functions(
        "bytes",
        _bytes_of,
        _bytes_of,
        wanted="bytes",
        keyable=True,
        immutable=True,
        value_type=builtins.bytes,
    )
    string: Final[Serde[str]] = _Functions(
        "string",
        str.encode,
        builtins.bytes.decode,
        wanted="a str without lone surrogates",
        keyable=True,
        immutable=True,
        value_type=str,
    )
    int32: Final[Serde[int]] = _number(
        "int32", ">i", "an int from -2**31 to 2**31 - 1", int, keyable=True
    )
    int64: Final[Serde[int]] = _number(
        "int64", ">q", "an int from -2**63 to 2**63 - 1", int, keyable=True
    )
    # 0.0 and -0.0 are equal with unlike bytes, NaN is unequal to itself: not keyable.
    float64: Final[Serde[float]] = _number("float64", ">d", "a float", float, keyable=False)
    bool: Final[Serde[builtins.bool]] = _Functions(
        "bool",
        _bool_to_bytes,
        _bool_of,
        wanted="True or False",
        keyable=True,
        immutable=True,
        fixed_size_bytes=1,
        value_type=builtins.bool,
    )
    uuid: Final[Serde[uuid_module.UUID]] = _Functions(
        "uuid",
        _uuid_to_bytes,
        _uuid_of,
        wanted="a uuid.UUID",
        keyable=True,
        immutable=True,
        fixed_size_bytes=36,
        value_type=uuid_module.UUID,
    )
    json: Final = _Schemaless(msgspec.json)
    msgpack: Final = _Schemaless(msgspec.msgpack)

    @staticmethod
    def windowed(inner: Serde[T], window_size_ms: int) -> WindowedSerde[T]:
        """Returns the serde of windowed keys, as results of windowed aggregations have.

        Args:
            inner: the serde of the key within.
            window_size_ms: size of the windows; the bytes do not tell it.
        """
        return WindowedSerde(inner, window_size_ms)


serdes: Final = Serdes()
