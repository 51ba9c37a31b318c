"""Serdes: how keys and values become bytes and come back.

Owns the `Serde` class, the built-in serdes with the JVM's bytes, and what the record cache must
know of a serde before it keeps values decoded. It must not know stores or topics; the name of the
topic is an argument, because a serde may depend on it (as with a schema registry).

A serialiser refuses values of other types instead of writing bytes that other readers cannot read.
A serde is never called with None: no key and no value have no bytes.

A serde may see the headers of the record. They exist only where a record is read or written; rows
of stores have none. Serdes without headers pay nothing for serdes with headers.

Source: JVM `org.apache.kafka.common.serialization.Serdes`, `WindowedSerdes`.
"""

from __future__ import annotations

import builtins
import difflib
import importlib
import types
import uuid as uuid_module
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable
from struct import Struct
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    final,
    get_args,
    get_origin,
    is_typeddict,
    overload,
)

import msgspec
from msgspec import inspect

from thalweg.stores.callables import arity, shown
from thalweg.stores.errors import (
    DeserializationError,
    SerdeError,
    SerializationError,
    StreamsError,
)
from thalweg.stores.formats import (
    decode_session_key,
    decode_windowed_key,
    encode_session_key,
    encode_windowed_key,
)
from thalweg.stores.record import Headers
from thalweg.stores.windowed import FOREVER_MS, SessionWindow, TimeWindow, Windowed

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
        sees_headers: whether it looks at a record's headers. Then the runtime calls the functions
            of `header_serializer` and `header_deserializer` where a record has a place for them.
    """

    keyable: bool = False
    immutable: bool = False
    fixed_size_bytes: int | None = None
    value_type: Any = None
    sees_headers: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values for a topic (or a store's changelog).

        The function raises SerializationError for values that are not of the serde's type.
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
        serialize = self.serializer(topic)

        def encode(value: T) -> bytes:
            data = serialize(value)
            return data if data.__class__ is bytes else bytes_of(self, topic, value, data)

        return encode

    def bare_deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the fastest function that reads right bytes; see `bare_serializer`."""
        return self.deserializer(topic)

    def header_serializer(self, topic: str) -> Callable[[T, Headers], bytes]:
        """Returns the function that writes values for a topic and may set the record's headers.

        The record is sent with the headers as the function leaves them. A serde that
        `sees_headers` overrides this.
        """
        encode = self.serializer(topic)
        return lambda value, _headers: encode(value)

    def header_deserializer(self, topic: str) -> Callable[[bytes, Headers], T]:
        """Returns the function that reads values of a topic and sees the record's headers.

        The headers are a copy. A serde that `sees_headers` overrides this.
        """
        decode = self.deserializer(topic)
        return lambda data, _headers: decode(data)

    @overload
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
        headers: Literal[False] = False,
    ) -> Serde[U]: ...

    @overload
    @staticmethod
    def of(
        serialize: Callable[[U, Headers], bytes],
        deserialize: Callable[[bytes, Headers], U],
        *,
        name: str,
        keyable: bool = False,
        immutable: bool = False,
        fixed_size_bytes: int | None = None,
        value_type: builtins.type[U] | None = None,
        headers: Literal[True],
    ) -> Serde[U]: ...

    @staticmethod
    def of(
        serialize: Callable[..., bytes],
        deserialize: Callable[..., Any],
        *,
        name: str,
        keyable: bool = False,
        immutable: bool = False,
        fixed_size_bytes: int | None = None,
        value_type: builtins.type[Any] | None = None,
        headers: bool = False,
    ) -> Serde[Any]:
        """Makes a serde of two functions.

        Args:
            serialize: value -> bytes; raises for what it does not take.
            deserialize: bytes -> value; raises for what it does not understand.
            name: what messages call it.
            keyable: see `Serde`; if it is wrong, rows get mixed up.
            immutable: see `Serde`; if it is wrong, old values are wrong.
            fixed_size_bytes: see `Serde`.
            value_type: see `Serde`.
            headers: whether the functions take the record's `Headers` too: (value, headers) ->
                bytes, which may set some, and (bytes, headers) -> value. Rows of stores and
                changelogs have no headers: there the functions get empty ones, and what is set
                is lost.

        Raises:
            TypeError: a function is async, or cannot be called with these arguments.
        """
        more = ", headers" if headers else ""
        arity(serialize, {1 + headers: f"value{more}"}, "Serde.of()")
        arity(deserialize, {1 + headers: f"data{more}"}, "Serde.of()")
        kind: type[_UserFunctions[Any]] = _UserHeaderFunctions if headers else _UserFunctions
        return kind(
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


def _unwritable(serde: Serde[Any], topic: str, value: object, why: str) -> SerializationError:
    reason = f"serde {serde.name} cannot write a value of type {type(value).__name__}: {why}"
    if isinstance(value, Windowed):
        reason += "; keys of windows need serdes.windowed(serde of the key, size of the windows)"
    error = SerializationError(
        f"{reason}; give the operator or store the serde of its type (key_serde=, value_serde=)",
        topic=topic or None,
    )
    error.reason = reason
    return error


def _unreadable(serde: Serde[Any], topic: str, data: object, why: object) -> DeserializationError:
    form = f"a {type(data).__name__}"
    if isinstance(data, bytes):
        more = " …" if len(data) > _HEAD_BYTES else ""
        form = f"{len(data)} bytes ({data[:_HEAD_BYTES].hex(' ')}{more})"
    reason = f"serde {serde.name} cannot read {form}: {why}"
    error = DeserializationError(
        f"{reason}; give the source or store the serde its bytes were written with "
        "(key_serde=, value_serde=)",
        topic=topic or None,
    )
    error.reason = reason
    return error


def _told(error: Exception) -> str:
    """Returns what a user's function raised, as text."""
    if isinstance(error, StreamsError):
        return error.message
    text = str(error)
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _unawaited(given: object) -> str:
    """Returns what messages call something that waits to be run."""
    name = getattr(given, "__qualname__", "")
    return f"the {type(given).__name__} of {name}()" if name else shown(given)


def reason_of(error: Exception) -> str:
    """Returns why a serde could not do its work, without a remedy; for messages."""
    return (isinstance(error, SerdeError) and error.reason) or _told(error)


class SerdeHint(NamedTuple):
    """Which operator chose the serdes of a store or topic, and where others are given.

    For messages only.

    Attributes:
        operator: the operator as users write it, such as "aggregate()"; empty if not known.
        key: where the serde of keys is given, such as "group_by(..., key_serde=...)".
        value: the same for values.
    """

    operator: str = ""
    key: str = "key_serde=..."
    value: str = "value_serde=..."

    @classmethod
    def of(cls, operator: str) -> SerdeHint:
        """Returns the hint of an operator that takes both serdes itself."""
        return cls(
            f"{operator}()", f"{operator}(..., key_serde=...)", f"{operator}(..., value_serde=...)"
        )

    def by(self) -> str:
        """Returns " of <operator>", nothing if it is not known."""
        return self.operator and f" of {self.operator}"

    def unwritable(self, which: Literal["key", "value"], error: Exception, given: object) -> str:
        """Returns the end of a message about what could not be written: why, and the remedy.

        Args:
            which: the half of the record or row.
            error: why, as the serde says it.
            given: the key or value.
        """
        if isinstance(given, (Awaitable, AsyncIterable)):
            return (
                f"it is {_unawaited(given)}, which was never awaited, so that nothing of it ran; "
                f"let the function that made this {which} return a plain value: a lambda must not "
                "return what an async function returned"
            )
        remedy = self.key if which == "key" else self.value
        return f"{reason_of(error)}; give the serde of its type: {remedy}"

    def unreadable(self, which: Literal["key", "value"], error: Exception) -> str:
        """Returns the end of a message about what could not be read: why, and the remedy."""
        remedy = self.key if which == "key" else self.value
        return f"{reason_of(error)}; give the serde its bytes were written with: {remedy}"


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
        wanted: str = "",
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
                raise _unwritable(self, topic, value, self.why_unwritable(error)) from error

        return encode

    def why_unwritable(self, error: Exception) -> str:
        """Returns why a value cannot be written: what a built-in serde takes."""
        return f"it takes {self._wanted}"

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


class _UserFunctions(_Functions[T]):
    """A serde of a user's two functions: what they raise and return is told."""

    def why_unwritable(self, error: Exception) -> str:
        """Returns what the function raised."""
        return f"its function raised {_told(error)}"

    def serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values."""
        serialize = self._serialize

        def encode(value: T) -> bytes:
            try:
                data = serialize(value)
            except SerializationError:
                raise
            except Exception as error:
                raise _unwritable(self, topic, value, self.why_unwritable(error)) from error
            return data if data.__class__ is bytes else bytes_of(self, topic, value, data)

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
                raise _unreadable(self, topic, data, _told(error)) from error

        return decode

    def bare_serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the checked function: what a user's function returns may not be bytes."""
        return self.serializer(topic)


class _UserHeaderFunctions(_UserFunctions[T]):
    """A serde of a user's two functions that take the record's headers, too."""

    sees_headers = True

    def serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values without headers."""
        encode = self.header_serializer(topic)
        return lambda value: encode(value, Headers())

    def deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the function that reads values without headers."""
        decode = self.header_deserializer(topic)
        return lambda data: decode(data, Headers())

    def bare_deserializer(self, topic: str) -> Callable[[bytes], T]:
        """Returns the checked function, which gives the headers that are missing here."""
        return self.deserializer(topic)

    def header_serializer(self, topic: str) -> Callable[[T, Headers], bytes]:
        """Returns the function that writes values and may set headers."""
        serialize: Callable[..., bytes] = self._serialize

        def encode(value: T, headers: Headers) -> bytes:
            try:
                data = serialize(value, headers)
            except SerializationError:
                raise
            except Exception as error:
                raise _unwritable(self, topic, value, self.why_unwritable(error)) from error
            return data if data.__class__ is bytes else bytes_of(self, topic, value, data)

        return encode

    def header_deserializer(self, topic: str) -> Callable[[bytes, Headers], T]:
        """Returns the function that reads values and sees headers."""
        deserialize: Callable[..., T] = self._deserialize

        def decode(data: bytes, headers: Headers) -> T:
            try:
                return deserialize(data, headers)
            except DeserializationError:
                raise
            except Exception as error:
                raise _unreadable(self, topic, data, _told(error)) from error

        return decode


def bytes_of(serde: Serde[Any], topic: str, value: object, data: object) -> bytes:
    """Returns what a user's serializer returned as bytes.

    Raises:
        SerializationError: it is neither bytes nor a buffer of them.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    why = f"its function returned {shown(data)}, it must return bytes"
    raise _unwritable(serde, topic, value, why)


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
        named = type.__name__ if isinstance(type, builtins.type) else str(type)
        try:
            return _typed(self._module, f"{self._name}({named})", type, f"a value of type {named}")
        except (TypeError, NameError) as error:
            message = (
                f"serdes.{self._name}() takes a type, got {shown(type)}, of which msgspec says: "
                f"{error}; give a msgspec.Struct, a dataclass, a TypedDict, a type such as int or "
                f"list[int], or a union of types; serdes.{self._name} alone takes any value"
            )
            raise TypeError(message) from None

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

    def bare_serializer(self, topic: str) -> Callable[[Any], bytes]:
        """Returns msgspec's own function."""
        return self._inner.bare_serializer(topic)

    def bare_deserializer(self, topic: str) -> Callable[[bytes], Any]:
        """Returns msgspec's own function."""
        return self._inner.bare_deserializer(topic)


@final
class _Typed(_Functions[T]):
    """JSON or msgpack of one type."""

    def __init__(self, name: str, module: Any, type_: Any, **functions: Any) -> None:
        super().__init__(name, value_type=None if type_ is Any else type_, **functions)
        self._identity = (module.__name__, type_)

    def why_unwritable(self, error: Exception) -> str:
        """Returns msgspec's message; if there is none, the types that the serde takes."""
        return str(error) or f"it takes {self._wanted}"

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
        given = serde_of(inner, "inner of serdes.windowed()")
        if given is None:
            message = "serdes.windowed() needs the serde of the key inside, got None"
            raise TypeError(message)
        if window_size_ms < 1:
            message = f"window_size_ms must be at least 1, got {window_size_ms}"
            raise ValueError(message)
        inner = given
        self.inner = inner
        self.sees_headers = inner.sees_headers
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
                raise _unwritable(self, topic, windowed, "it takes a Windowed key")
            return encode_windowed_key(encode_inner(windowed.key), windowed.window.start_ms)

        return encode

    def bare_serializer(self, topic: str) -> Callable[[Windowed[T]], bytes]:
        """Returns the function that writes windowed keys: none is faster."""
        return self.serializer(topic)

    def deserializer(self, topic: str) -> Callable[[bytes], Windowed[T]]:
        """Returns the function that reads windowed keys."""
        decode_inner = self.inner.deserializer(topic)

        def decode(data: bytes) -> Windowed[T]:
            key, window = self._parts(topic, data)
            return Windowed(decode_inner(key), window)

        return decode

    def header_serializer(self, topic: str) -> Callable[[Windowed[T], Headers], bytes]:
        """Returns the function that writes windowed keys; the inner serde may set headers."""
        encode_inner = self.inner.header_serializer(topic)

        def encode(windowed: Windowed[T], headers: Headers) -> bytes:
            if not isinstance(windowed, Windowed):
                raise _unwritable(self, topic, windowed, "it takes a Windowed key")
            inner = encode_inner(windowed.key, headers)
            return encode_windowed_key(inner, windowed.window.start_ms)

        return encode

    def header_deserializer(self, topic: str) -> Callable[[bytes, Headers], Windowed[T]]:
        """Returns the function that reads windowed keys; the inner serde sees the headers."""
        decode_inner = self.inner.header_deserializer(topic)

        def decode(data: bytes, headers: Headers) -> Windowed[T]:
            key, window = self._parts(topic, data)
            return Windowed(decode_inner(key, headers), window)

        return decode

    def _parts(self, topic: str, data: bytes) -> tuple[bytes, TimeWindow]:
        """Returns the inner key's bytes and the window."""
        try:
            key, start = decode_windowed_key(data)
        except DeserializationError as error:
            raise _unreadable(self, topic, data, error) from error
        if not 0 <= start < FOREVER_MS:
            raise _unreadable(self, topic, data, f"a window cannot start at {start}")
        return key, TimeWindow(start, min(start + self.window_size_ms, FOREVER_MS))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WindowedSerde)
            and self.inner == other.inner
            and self.window_size_ms == other.window_size_ms
        )

    def __hash__(self) -> int:
        return hash((self.inner, self.window_size_ms))


@final
class SessionWindowedSerde(Serde[Windowed[T]]):
    """Keys of sessions on a topic; see `stores.formats.encode_session_key`.

    Both ends of the session are written.

    Attributes:
        inner: the serde of the key within.
    """

    def __init__(self, inner: Serde[T]) -> None:
        given = serde_of(inner, "inner of serdes.session_windowed()")
        if given is None:
            message = "serdes.session_windowed() needs the serde of the key inside, got None"
            raise TypeError(message)
        self.inner = given
        self.sees_headers = given.sees_headers
        self.value_type = Windowed
        self.immutable = given.immutable
        if given.fixed_size_bytes is not None:
            self.fixed_size_bytes = given.fixed_size_bytes + 16

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"session_windowed({self.inner.name})"

    def serializer(self, topic: str) -> Callable[[Windowed[T]], bytes]:
        """Returns the function that writes keys of sessions."""
        encode_inner = self.inner.serializer(topic)

        def encode(windowed: Windowed[T]) -> bytes:
            if not isinstance(windowed, Windowed):
                raise _unwritable(self, topic, windowed, "it takes a Windowed key")
            window = windowed.window
            return encode_session_key(encode_inner(windowed.key), window.start_ms, window.end_ms)

        return encode

    def bare_serializer(self, topic: str) -> Callable[[Windowed[T]], bytes]:
        """Returns the function that writes keys of sessions: none is faster."""
        return self.serializer(topic)

    def deserializer(self, topic: str) -> Callable[[bytes], Windowed[T]]:
        """Returns the function that reads keys of sessions."""
        decode_inner = self.inner.deserializer(topic)

        def decode(data: bytes) -> Windowed[T]:
            key, window = self._parts(topic, data)
            return Windowed(decode_inner(key), window)

        return decode

    def header_serializer(self, topic: str) -> Callable[[Windowed[T], Headers], bytes]:
        """Returns the function that writes keys of sessions; the inner serde may set headers."""
        encode_inner = self.inner.header_serializer(topic)

        def encode(windowed: Windowed[T], headers: Headers) -> bytes:
            if not isinstance(windowed, Windowed):
                raise _unwritable(self, topic, windowed, "it takes a Windowed key")
            window = windowed.window
            inner = encode_inner(windowed.key, headers)
            return encode_session_key(inner, window.start_ms, window.end_ms)

        return encode

    def header_deserializer(self, topic: str) -> Callable[[bytes, Headers], Windowed[T]]:
        """Returns the function that reads keys of sessions; the inner serde sees the headers."""
        decode_inner = self.inner.header_deserializer(topic)

        def decode(data: bytes, headers: Headers) -> Windowed[T]:
            key, window = self._parts(topic, data)
            return Windowed(decode_inner(key, headers), window)

        return decode

    def _parts(self, topic: str, data: bytes) -> tuple[bytes, SessionWindow]:
        """Returns the inner key's bytes and the session."""
        try:
            key, end_ms, start_ms = decode_session_key(data)
        except DeserializationError as error:
            raise _unreadable(self, topic, data, error) from error
        if not 0 <= start_ms <= end_ms:
            reason = f"a session cannot last from {start_ms} to {end_ms}"
            raise _unreadable(self, topic, data, reason)
        return key, SessionWindow(start_ms, end_ms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SessionWindowedSerde) and self.inner == other.inner

    def __hash__(self) -> int:
        return hash((SessionWindowedSerde, self.inner))


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
        json: JSON of any value, or `json(Order)`: JSON of one type.
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

    @staticmethod
    def session_windowed(inner: Serde[T]) -> SessionWindowedSerde[T]:
        """Returns the serde of keys of sessions, as results of aggregated sessions have.

        Args:
            inner: the serde of the key within.
        """
        return SessionWindowedSerde(inner)


serdes: Final = Serdes()


# -- what is given where a serde is meant --------------------------------------------------

SERDE_NAMES: Final = ("bytes", "string", "int32", "int64", "float64", "bool", "uuid")
"""Serdes that settings and operators take by name."""

_SERDE_OF_CLASS: Final[dict[builtins.type, str]] = {
    builtins.bytes: "serdes.bytes",
    str: "serdes.string",
    int: "serdes.int64",
    float: "serdes.float64",
    builtins.bool: "serdes.bool",
    uuid_module.UUID: "serdes.uuid",
    dict: "serdes.json",
    list: "serdes.json",
    object: "serdes.json",
}


def serde_of(given: object, what: str) -> Serde[Any] | None:
    """Returns the serde of an argument: given as a serde, by its name, or None.

    Args:
        given: a `Serde`, one of `SERDE_NAMES`, "module:attribute" of a serde, or None.
        what: the argument and whose it is, such as "value_serde of stream()".

    Raises:
        TypeError: it is none of these; says what may be meant.
    """
    if given is None or isinstance(given, Serde):
        return given
    found = given
    if isinstance(given, str):
        if given in SERDE_NAMES:
            return cast("Serde[Any]", getattr(serdes, given))
        if ":" in given:
            try:
                found = attribute_named(given)
            except ValueError as error:
                message = f"{what} must be a Serde, got {given!r}: it takes {error}"
                raise TypeError(message) from error
            if isinstance(found, Serde):
                return found
    meant = serde_meant(found)
    hint = f"; did you mean {meant}?" if meant else ""
    if not meant:
        hint = f"; give one of thalweg's serdes, one of the names {', '.join(SERDE_NAMES)}, or Serde.of(...)"
    message = f"{what} must be a Serde, got {shown(given)}{hint}"
    raise TypeError(message)


def attribute_named(value: str) -> Any:
    """Imports `module:attribute`.

    Raises:
        ValueError: there is none; says why.
    """
    module, _, attribute = value.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"module:attribute of something that exists ({error})"
        raise ValueError(message) from error
    except StreamsError:
        raise
    except Exception as error:  # whatever a module of the user's raises when it is loaded
        message = f"module:attribute of a module that can be loaded ({_told(error)})"
        raise ValueError(message) from error
    return found


def serde_meant(given: object) -> str:
    """Returns, as code, the serde that a wrong argument probably means; empty if none is similar."""
    if isinstance(given, str):
        known = (*SERDE_NAMES, "json", "msgpack")
        close = difflib.get_close_matches(given.lower().removeprefix("serdes."), known, 1)
        if not close:
            close = [
                name.rpartition(".")[2]
                for cls, name in _SERDE_OF_CLASS.items()
                if cls.__name__ == given
            ]
        return f"serdes.{close[0]}" if close else ""
    if isinstance(given, builtins.type) and not hasattr(given, "__origin__"):
        if issubclass(given, Serde):
            return f"{given.__qualname__}()"
        return _SERDE_OF_CLASS.get(given, f"serdes.json({given.__qualname__})")
    if hasattr(given, "__origin__") or hasattr(given, "__args__"):  # list[Order], Order | None
        return f"serdes.json({given})"
    if hasattr(given, "serializer") or hasattr(given, "deserializer"):
        return f"a class {type(given).__qualname__} that is derived from Serde"
    if callable(given):
        return 'Serde.of(serialize, deserialize, name="...")'
    return ""


# -- what is wrong with a record -----------------------------------------------------------

Half = Literal["key", "value"]


def write_fault(
    topic: str,
    error: Exception,
    key: tuple[Serde[Any], Any],
    value: tuple[Serde[Any], Any],
    headers: Headers,
) -> tuple[Half, Exception]:
    """Returns which half of a record cannot be written, and the error that says why.

    The bare functions of the runtime raise anything; here the checked ones are asked.

    Args:
        topic: where the record was to go.
        error: what was raised.
        key: the serde of keys, and the key.
        value: the serde of values, and the value.
        headers: the record's; they are not changed.
    """
    halves: tuple[tuple[Half, tuple[Serde[Any], Any]], ...] = (("key", key), ("value", value))
    for half, (serde, given) in halves:
        if given is None:
            continue
        try:
            data = serde.header_serializer(topic)(given, headers.copy())
            bytes_of(serde, topic, given, data)
        except Exception as found:
            return half, found
    return "value", error


def read_fault(
    topic: str,
    error: Exception,
    key: tuple[Serde[Any], bytes | None],
    value: tuple[Serde[Any], bytes | None],
    headers: Headers,
) -> tuple[Half, Exception]:
    """Returns which half of a record cannot be read, and the error that says why.

    See `write_fault`.
    """
    halves: tuple[tuple[Half, tuple[Serde[Any], bytes | None]], ...] = (
        ("key", key),
        ("value", value),
    )
    for half, (serde, data) in halves:
        if data is None:
            continue
        try:
            serde.header_deserializer(topic)(data, headers.copy())
        except Exception as found:
            return half, found
    return "value", error
