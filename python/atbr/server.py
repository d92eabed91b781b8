"""`Store.serve`: the store over HTTP, WebSocket and the Redis protocol, in the background of this process."""

from __future__ import annotations

import atexit
import ipaddress
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from atbr import _core

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypedDict

    from typing_extensions import Self

    from atbr.store import Store

    Path = str | os.PathLike[str]

    class ServeOptions(TypedDict, total=False):
        """What `Server` and `Store.serve` take."""

        http: int | None
        resp: int | None
        host: str
        password: str | bytes | None
        token: str | bytes | None
        password_file: Path | None
        token_file: Path | None
        data_dir: Path | None
        readonly: bool
        tsv: Literal["backslash", "plain"]
        disabled_commands: Iterable[str]
        allowed_hosts: Iterable[str]
        cors_origins: Iterable[str]
        tls_cert: Path | None
        tls_key: Path | None
        max_connections: int | None
        max_unauthenticated: int | None
        max_value: int | None
        max_request_line: int | None
        max_headers: int | None
        max_buffers: int | None
        idle_timeout: float | None
        stall_timeout: float | None
        unauthenticated_timeout: float | None
        threads: int


DRAIN_SECONDS = 5.0

_open: set[Server] = set()
"""Servers that nobody has closed; they end with the interpreter."""


class Server:
    """A store on the network. `Store.serve(...)` makes one.

    Args:
        store: What database 0 is, as bytes. It stays usable here, and both sides see each other's writes.
        http: Port of HTTP, WebSocket and the console; 0: any free one; None: not served.
        resp: Port of the Redis protocol, likewise.
        host: Address to listen on. One that other machines reach needs a password or a token.
        password: Asked for on every door: AUTH of the Redis protocol, Bearer of HTTP.
        token: The same under another name, so that both can be given out and changed apart.
        password_file: A file that holds the password; `reload_secrets` reads it again.
        token_file: A file that holds the token, likewise.
        data_dir: The only folder that clients may load from and save to; None: they may not.
        readonly: Refuse every change that comes over the network.
        tsv: How files that clients load and save write tabs and newlines: "backslash" escapes them, "plain" cannot.
        disabled_commands: Commands of the Redis protocol to refuse.
        allowed_hosts: Names that a Host header may hold besides this machine's own.
        cors_origins: Origins whose pages may read, such as "https://a.example".
        tls_cert: A certificate, and after it those that vouch for it, in PEM: every door speaks TLS.
        tls_key: The certificate's private key in PEM; both files are read again by `reload_secrets`.
        max_connections: Most connections at once.
        max_unauthenticated: Most of them that have not shown a secret yet.
        max_value: Longest value in bytes.
        max_request_line: Longest address in a request of HTTP, and inline command of the Redis protocol, in bytes.
        max_headers: Longest headers of a request of HTTP, all together, in bytes.
        max_buffers: Most bytes that wait for all clients together.
        idle_timeout: Seconds after which a connection that says nothing is closed; None: it stays.
        stall_timeout: Seconds after which a client is cut off that takes nothing of an answer, or sends too little of
            what it has begun.
        unauthenticated_timeout: Seconds in which a client has to show a secret, and to end the handshake of TLS.
        threads: Threads of the network; 0: one fewer than processors, and at least one.

    Raises:
        OSError: A port cannot be listened on, or a file of secrets or the certificate cannot be used.
        ValueError: An option is wrong, or other machines could connect without a secret.

    The network has threads of its own, which never take the GIL. A process that is forked keeps a usable store and a
    server that is closed; its parent serves on.

    >>> import atbr, urllib.request
    >>> store = atbr.Store({"alpha": "α"})
    >>> with store.serve() as server:
    ...     address = f"{server.url}/get/key/alpha"
    ...     urllib.request.urlopen(address).read().decode()
    'α'

    """

    def __init__(
        self,
        store: Store[Any, Any],
        *,
        http: int | None = 0,
        resp: int | None = 0,
        host: str = "127.0.0.1",
        password: str | bytes | None = None,
        token: str | bytes | None = None,
        password_file: Path | None = None,
        token_file: Path | None = None,
        data_dir: Path | None = None,
        readonly: bool = False,
        tsv: Literal["backslash", "plain"] = "backslash",
        disabled_commands: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        cors_origins: Iterable[str] = (),
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        max_connections: int | None = None,
        max_unauthenticated: int | None = None,
        max_value: int | None = None,
        max_request_line: int | None = None,
        max_headers: int | None = None,
        max_buffers: int | None = None,
        idle_timeout: float | None = None,
        stall_timeout: float | None = None,
        unauthenticated_timeout: float | None = None,
        threads: int = 0,
        _closed_files: Iterable[Path] = (),
        _start: bool = True,
        _debug: bool = False,
    ) -> None:
        secrets = [password, token]
        files = [password_file, token_file]
        self._store = store
        self._encrypts = tls_cert is not None
        self._core = _core.Server(
            store,
            http=http,
            resp=resp,
            host=host,
            secrets=[_bytes(secret) for secret in secrets if secret is not None],
            secret_files=[os.fspath(file) for file in files if file is not None],
            threads=threads,
            data_dir=None if data_dir is None else os.fspath(data_dir),
            closed_files=[os.fspath(file) for file in _closed_files],
            readonly=readonly,
            disabled_commands=_texts("disabled_commands", disabled_commands),
            cors_origins=_texts("cors_origins", cors_origins),
            allowed_hosts=_texts("allowed_hosts", allowed_hosts),
            tsv=tsv,
            tls_cert=None if tls_cert is None else os.fspath(tls_cert),
            tls_key=None if tls_key is None else os.fspath(tls_key),
            max_connections=max_connections,
            max_unauthenticated=max_unauthenticated,
            max_value=max_value,
            max_request_line=max_request_line,
            max_headers=max_headers,
            max_buffers=max_buffers,
            idle_timeout=idle_timeout,
            stall_timeout=stall_timeout,
            unauthenticated_timeout=unauthenticated_timeout,
            debug_commands=_debug,
        )
        if _start:
            self._serve()

    def _serve(self) -> None:
        """Answer; until then clients that connect wait."""
        self._core.start()
        _open.add(self)

    @property
    def http_port(self) -> int | None:
        """The port of HTTP; None where it is not served."""
        return self._core.http[1] if self._core.http else None

    @property
    def resp_port(self) -> int | None:
        """The port of the Redis protocol; None where it is not served."""
        return self._core.resp[1] if self._core.resp else None

    @property
    def url(self) -> str | None:
        """The address of HTTP, without a slash at its end; None where it is not served."""
        return _url("https" if self._encrypts else "http", self._core.http)

    @property
    def resp_url(self) -> str | None:
        """The address of the Redis protocol, as redis-py's `from_url` takes it; None where it is not served."""
        return _url("rediss" if self._encrypts else "redis", self._core.resp)

    @property
    def closed(self) -> bool:
        """Whether it has stopped: by `close`, by a client's SHUTDOWN, or in the child of a fork."""
        return not self._core.running

    def db(self, number: int) -> Store[Any, Any]:
        """Return database `number` (0 to 15) as a store of the same types. O(1).

        >>> import atbr
        >>> with atbr.Store().serve() as server:
        ...     server.db(3)["a"] = "1"
        ...     len(server.db(3)), len(server.db(0))
        (1, 0)
        """
        if number == 0:
            return self._store
        return self._store._handle(self._core.db(number), self._store._codec_of_values())

    def reload_secrets(self) -> None:
        """Read the files of the password, the token, the certificate and its key again; connections that are open stay.

        Raises:
            OSError: A file cannot be read, is empty, or does not fit the others; all is then as it was.

        """
        self._core.reload_secrets()

    def close(self, timeout: float = DRAIN_SECONDS) -> bool:
        """Stop: what has begun is answered, for at most `timeout` seconds. Return whether all of it was.

        The store stays open.
        """
        _open.discard(self)
        return self._core.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<atbr.server.Server closed>"
        places = ", ".join(place for place in (self.url, self.resp_url) if place)
        return f"<atbr.server.Server at {places}>"


def _bytes(secret: str | bytes) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret


def _texts(name: str, texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"{name}= must be a list of str, not {texts!r}")
    return list(texts)


def _url(scheme: str, place: tuple[str, int] | None) -> str | None:
    if place is None:
        return None
    address = ipaddress.ip_address(place[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{host}:{place[1]}"


def _close_all() -> None:
    for server in list(_open):
        server.close(0.5)


atexit.register(_close_all)
