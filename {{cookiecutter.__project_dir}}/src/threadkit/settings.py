"""Settings of the kit, from the environment and nowhere else.

Every setting is an environment variable of the same name in capitals. Times are seconds
and sizes are bytes, unless the name says otherwise. An owner subclasses ``Settings`` and
adds fields of their own; ``load`` reads them all and reports every fault in one message.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from threadkit import hosts, ladder, machine
from threadkit.database_url import driver_fault, normalised, path_fault

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]

KIT_WORKER = "threadkit.server.worker.Worker"
STOCK_WORKER = "gthread"


def _redis_url(value: str) -> str:
    if value and not value.startswith(("redis://", "rediss://", "unix://")):
        msg = "not a Redis address; write for example redis://127.0.0.1:6379/0"
        raise ValueError(msg)
    return value


def split_address(value: str) -> tuple[str, int]:
    """``host:port`` as a pair; an IPv6 host stands in brackets."""
    host, separator, port = value.rpartition(":")
    if port.isascii() and port.isdigit() and int(port) > 65_535:
        msg = f"there is no port {port}; the largest is 65535"
        raise ValueError(msg)
    if not separator or not port.isascii() or not port.isdigit():
        msg = "not an address; write host:port, for example 127.0.0.1:8000 or [::1]:8000"
        raise ValueError(msg)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        msg = "an IPv6 host needs brackets, as in [::1]:8000"
        raise ValueError(msg)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host means all


def _address(value: str) -> str:
    if value and not value.startswith("unix:"):
        split_address(value)
    return value


def _admin_address(value: str) -> str:
    if value:
        split_address(value)
    return value


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _host_names(values: list[str]) -> list[str]:
    # As requests are compared with them: in small letters, without the dot that may end a name.
    return [value.lower().removesuffix(".") for value in values]


def _token(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if secret and not secret.strip():
        msg = "it holds nothing but blanks; set it to a secret of your own, or leave it unset"
        raise ValueError(msg)
    return value


def _worker_class(value: str) -> str:
    if value not in (KIT_WORKER, STOCK_WORKER):
        msg = (
            "no worker that can serve this; leave WORKER_CLASS unset for the kit's own "
            f"({KIT_WORKER}), or set it to {STOCK_WORKER}"
        )
        raise ValueError(msg)
    return value


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """What the kit reads from the environment. Frozen once built."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=False)

    default_database_url: ClassVar[str | None] = None
    """Used where DATABASE_URL is not set; None makes DATABASE_URL mandatory."""

    database_url: Annotated[str, AfterValidator(normalised)] = Field(repr=False)
    """Where the data is: sqlite, postgresql or mysql. Secret: it may hold a password."""

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(default="", repr=False)
    """Redis for caches that all instances share; empty: none. Secret: may hold a password."""

    bind: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8000"
    """Public address, host:port or unix:/path."""
    admin_bind: Annotated[str, AfterValidator(_admin_address)] = "127.0.0.1:9000"
    """Admin address, host:port; empty turns it off."""
    admin_token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Bearer token of the admin address; mandatory where ADMIN_BIND is not loopback."""

    workers: Count = Field(default_factory=lambda: machine.workers_for(machine.read()).number)
    """Worker processes."""
    cpu_affinity: Literal["off", "on"] = "off"
    """on: each worker has one core to itself."""
    concurrency: Count = 8
    """Requests that run at once in a worker."""
    queue_size: Annotated[int, Field(ge=0, le=100_000)] = 8
    """Requests that may wait for a place, in a worker; the next one gets 503."""
    queue_timeout: Seconds = 0.5
    """Longest wait for a place."""
    limiter: Literal["fixed", "aimd"] = "fixed"
    """How many run at once: CONCURRENCY, or aimd: at most that, fewer while answers are slow."""
    request_timeout: Seconds = 3.0
    """Time limit of a request, where its route names no other."""
    max_request_timeout: Seconds = 3.0
    """Most that a route's own @deadline may ask for."""
    header_timeout: Seconds = 10.0
    """Longest that a client may take for the head of a request."""
    body_timeout: Seconds = 10.0
    """Longest that a client may take for the body of a request."""
    write_timeout: Seconds = 10.0
    """Longest that a client may take for each 256 KiB of an answer."""
    watchdog_grace: Seconds = 5.0
    """How long a handler may ignore its deadline before its worker is replaced."""
    drain_delay: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 1.0
    """How long a stopping worker goes on accepting, for load balancers to notice."""
    graceful_timeout: Seconds = 11.0
    """When a stopping worker is killed, whatever it still does."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    """Largest request body."""
    max_unfinished_bytes: Annotated[int, Field(ge=2 * 1024 * 1024)] = 32 * 1024 * 1024
    """Memory of requests that are still coming in, in a worker; above it, some get 503."""

    executor_threads: Count = 8
    """Threads that task groups and background work of a worker share."""
    executor_queue_size: Annotated[int, Field(ge=0, le=1_000_000)] = 64
    """Background tasks that may wait, in a worker; the next one is refused."""

    database_pool_size: Count = 8
    """Connections of a worker's write pool, and as many of its read pool."""
    database_pool_timeout: Seconds = 1.0
    """Longest wait for a connection."""
    database_statement_timeout: Seconds = 4.0
    """The server's own limit on a statement, a net below the request's deadline."""

    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Client connections that a worker holds at once."""
    worker_class: Annotated[str, AfterValidator(_worker_class)] = Field(
        default_factory=lambda: KIT_WORKER if sys.platform == "linux" else STOCK_WORKER
    )
    """gunicorn's worker class: the kit's own, or `gthread` with less protection."""
    trusted_hosts: Annotated[
        list[str], NoDecode, BeforeValidator(_comma_separated), AfterValidator(_host_names)
    ] = Field(default_factory=list)
    """Comma-separated Host values to answer, .example.com with subdomains; empty: any."""
    trusted_proxies: Annotated[int, Field(ge=0, le=16)] = 0
    """Proxies in front whose X-Forwarded-* headers count."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_in_capitals)
    ] = "INFO"
    """Least severe level that is written, in capitals or not."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or a format for people."""

    @model_validator(mode="before")
    @classmethod
    def _default_database(cls, values: dict[str, Any]) -> dict[str, Any]:
        if cls.default_database_url is not None:
            values.setdefault("database_url", cls.default_database_url)
        return values

    @model_validator(mode="after")
    def _derive(self) -> Self:
        explicit = {name: getattr(self, name) for name in self.model_fields_set}
        rungs = ladder.derive(explicit, {**self.__dict__})
        # The model is frozen for everyone else; derived values do not count as set.
        self.__dict__.update({name: rungs[name] for name in type(self).model_fields})
        return self

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; ``SettingsError`` lists every fault with its remedy."""
        try:
            settings, messages = cls(**overrides), {}
        except ValidationError as error:
            messages = _describe(error)
            settings = cls._without(messages, overrides)
        lines = list(messages.values())
        lines += ladder.faults(settings.__dict__, known=lambda name: name not in messages)
        lines += settings._admin_faults(messages) + settings._resource_faults(messages)
        if lines:
            raise SettingsError(lines)
        return settings

    @classmethod
    def _without(cls, faulty: Mapping[str, str], overrides: Mapping[str, Any]) -> Self:
        # The rest of the faults can only be found in a model, so build one in which the
        # faulty values have given way to defaults.
        stand_ins: dict[str, Any] = {"database_url": "sqlite:///unused.db"}
        for name, field in cls.model_fields.items():
            if not field.is_required():
                stand_ins[name] = field.get_default(call_default_factory=True, validated_data={})
        replaced = {name: stand_ins.get(name) for name in faulty if name in cls.model_fields}
        for name, field in cls.model_fields.items():
            if name in faulty and name not in stand_ins and field.is_required():
                return cls.model_construct(**{**stand_ins, **overrides, **replaced})
        return cls(**{**overrides, **replaced})

    def _resource_faults(self, faulty: Mapping[str, str]) -> list[str]:
        faults: list[str | None] = []
        if "database_url" not in faulty:
            faults.append(driver_fault(self.database_url) or path_fault(self.database_url))
        if self.redis_url and "redis_url" not in faulty and find_spec("redis") is None:
            faults.append(
                "REDIS_URL is set and redis is not installed: pip install '.[redis]', "
                "or requirements/redis.txt"
            )
        return [fault for fault in faults if fault]

    def _admin_faults(self, faulty: Mapping[str, str]) -> list[str]:
        if not self.admin_bind or {"admin_bind", "admin_token"} & faulty.keys():
            return []
        host, port = split_address(self.admin_bind)
        if "bind" not in faulty and not self.bind.startswith("unix:"):
            public, same = split_address(self.bind)
            if port == same != 0 and hosts.collide(public, host):
                return [
                    f"BIND={self.bind} and ADMIN_BIND={self.admin_bind} are one place: "
                    "give each a port of its own"
                ]
        if hosts.is_loopback(host) or (self.admin_token and self.admin_token.get_secret_value()):
            return []
        return [
            f"ADMIN_BIND={self.admin_bind} can be reached from other machines: set ADMIN_TOKEN "
            "to a secret of your own, or bind the admin address to 127.0.0.1"
        ]


class SettingsError(ValueError):
    """Settings that cannot work; its text lists every fault, one a line."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        count = "1 setting is wrong" if len(lines) == 1 else f"{len(lines)} settings are wrong"
        super().__init__("\n".join([f"{count}:", *(f"  - {line}" for line in lines)]))


_SECRET = frozenset({"database_url", "redis_url", "admin_token"})


def _describe(error: ValidationError) -> dict[str, str]:
    """One sentence a field: its variable, the value that it has (unless secret), the fault."""
    messages: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        variable = name.upper()
        if fault["type"] == "missing":
            remedy = "set it in the environment"
            if name == "database_url":
                remedy = "set it, for example DATABASE_URL=postgresql://user@host/name"
            messages[name] = f"{variable} is not set: {remedy}"
            continue
        text = fault["msg"].removeprefix("Value error, ")
        value = "" if name in _SECRET else f"={_shown(fault['input'])}"
        messages[name] = f"{variable}{value}: {text[:1].lower()}{text[1:]}"
    return messages


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 80 else text[:77] + "...")
