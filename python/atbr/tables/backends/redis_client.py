"""redis-py's clients: how they are made, and what their exceptions say."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry as DriversRetry

from atbr._core import RedisPacker
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError

# The driver has no types for these two.
_NODE: Any = ClusterNode
_POOL: Any = redis.BlockingConnectionPool

# What says that the server did not carry the command out.
_REFUSED = (
    redis.exceptions.ClusterDownError,
    redis.exceptions.SlotNotCoveredError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.BusyLoadingError,
)
_GONE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    *_REFUSED,
)


def connected(config: Config) -> Any:
    """Return a client for redis:// or redis+cluster://; redis-py looks for a cluster at once, for a server later.

    Raises:
        ConfigurationError: An option or an address does not fit.
    """
    timeout: float = config.options["timeout"]
    common: dict[str, Any] = {
        "username": config.user,
        "password": config.password,
        "ssl": config.secure,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        # Repeating is ours: the driver would repeat an increment, too.
        "retry": DriversRetry(NoBackoff(), 0),
    }
    if config.options["ca"]:
        if not config.secure:
            raise ConfigurationError("ca: it is for TLS, rediss:// or rediss+cluster://")
        common["ssl_ca_certs"] = config.options["ca"]
    places = config.host_ports(6379)
    if config.storage_type == "redis+cluster":
        if config.path.strip("/") not in ("", "0"):
            raise ConfigurationError(f"url: a cluster has no database {config.path!r}")
        return RedisCluster(
            startup_nodes=[_NODE(host, port) for host, port in places],
            max_connections=config.options["connections"],
            **common,
        )
    if len(places) > 1:
        raise ConfigurationError("storage_addresses: redis takes one; redis+cluster more")
    database = config.path.strip("/") or "0"
    if not database.isdecimal():
        raise ConfigurationError(f"url: {database!r} is no number of a database")
    ssl = common.pop("ssl")
    pool = _POOL(
        host=places[0][0],
        port=places[0][1],
        db=int(database),
        max_connections=config.options["connections"],
        timeout=timeout,
        command_packer=RedisPacker(),
        **({"connection_class": redis.SSLConnection} if ssl else {}),
        **common,
    )
    return redis.Redis(connection_pool=pool)


def is_gone(error: Exception) -> bool:
    """Whether a server did not answer."""
    # A wrong password is no engine that went away.
    return isinstance(error, _GONE) and not isinstance(error, redis.AuthenticationError)


def never_sent(error: Exception) -> bool:
    """Whether no server has carried a command out."""
    return isinstance(error, _REFUSED) or " connecting to " in str(error)
