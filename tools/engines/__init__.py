"""Real engines for tests and benchmarks, on free ports of 127.0.0.0/8, ended by who started them.

`tools/engines.sh` installs them; `missing` says what is not there.
"""

from __future__ import annotations

from engines.cassandra import Cassandra
from engines.postgresql import PostgreSQL
from engines.processes import missing
from engines.redis import Certificates, Redis, RedisCluster

__all__ = ["Cassandra", "Certificates", "PostgreSQL", "Redis", "RedisCluster", "missing"]
