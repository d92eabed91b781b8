"""One Redis server, or a cluster of masters with or without replicas."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from engines.processes import START_SECONDS, Process, Service, folder, free_port, listens

OPTIONS = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
CLUSTER = [
    *["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"],
    *["--cluster-node-timeout", "2000", "--cluster-announce-ip", "127.0.0.1"],
    # A replica counts for clients only after its master's first ping.
    *["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"],
]


class Certificates:
    """An authority of its own and a certificate by it for 127.0.0.1."""

    def __init__(self) -> None:
        self.folder = folder("tls")
        self.ca = self._made("ca", "-subj", "/CN=atbr tests")
        host = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        own = self._made("server", *host, "-CA", str(self.ca), "-CAkey", self._key("ca"))
        #: What makes a server speak TLS only, to clients and to other nodes.
        self.server_options = [
            *["--port", "0", "--tls-auth-clients", "no", "--tls-ca-cert-file", str(self.ca)],
            *["--tls-cert-file", str(own), "--tls-key-file", self._key("server")],
            *["--tls-replication", "yes", "--tls-cluster", "yes"],
        ]
        self.client_options = ["--tls", "--cacert", str(self.ca)]

    def _key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def _made(self, name: str, *options: str) -> Path:
        made = self.folder / f"{name}.crt"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += [*options, "-keyout", self._key(name), "-out", str(made)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return made

    def __enter__(self) -> Certificates:
        return self

    def __exit__(self, *_error: Any) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Service):
    """One server; with certificates it speaks TLS only."""

    def __init__(
        self, port: int | None = None, *options: str, tls: Certificates | None = None
    ) -> None:
        self.port = port or free_port()
        self.folder = folder("redis")
        self.tls = tls
        self.url = f"redis{'s' if tls else ''}://127.0.0.1:{self.port}/0"
        self.options = options

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = ["redis-server", "--dir", str(self.folder), *OPTIONS, *self.options]
        if self.tls:
            command += ["--tls-port", str(self.port), *self.tls.server_options]
        else:
            command += ["--port", str(self.port)]
        self.process = Process(command, self.folder / "log")
        self.process.wait_until(lambda: listens("127.0.0.1", self.port))

    def ask(self, *words: str) -> str:
        """Return what redis-cli prints, all of it as text."""
        command = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port)]
        command += [*(self.tls.client_options if self.tls else ()), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=START_SECONDS
        )
        return done.stdout

    def __enter__(self) -> Redis:
        self.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisCluster:
    """Some masters, each with some replicas."""

    def __init__(
        self, masters: int = 3, replicas: int = 0, tls: Certificates | None = None
    ) -> None:
        self.masters, self.replicas, self.tls = masters, replicas, tls
        self.nodes: list[Redis] = []
        taken: set[int] = set()
        while len(self.nodes) < masters * (1 + replicas):
            # The cluster's bus takes the port 10,000 above.
            port = free_port(low=10_000, high=19_999)
            if port not in taken and free_bus(port):
                taken.add(port)
                self.nodes.append(Redis(port, *CLUSTER, tls=tls))
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"redis{'s' if tls else ''}+cluster://{places}"

    def __enter__(self) -> RedisCluster:
        for node in self.nodes:
            node.start()
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        replicas = ["--cluster-replicas", str(self.replicas)]
        said = self.nodes[0].ask("--cluster", "create", *addresses, *replicas, "--cluster-yes")
        deadline = time.monotonic() + START_SECONDS
        while not all(self._is_whole(node) for node in self.nodes):
            if time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the cluster is not whole: {said}")
            time.sleep(0.05)
        return self

    def _is_whole(self, node: Redis) -> bool:
        # What clients ask: every node in the slots, each replica in sync.
        slots = [line for line in node.ask("cluster", "slots").split() if len(line) == 40]
        state = node.ask("cluster", "info") + node.ask("info", "replication")
        return (
            len(slots) == len(self.nodes)
            and "cluster_state:ok" in state
            and f"cluster_known_nodes:{len(self.nodes)}" in state
            and "master_link_status:down" not in state
            and ("role:slave" in state or f"connected_slaves:{self.replicas}" in state)
        )

    def master(self) -> Redis:
        """Return a node that is a master just now."""
        return next(node for node in self.nodes if "role:master" in node.ask("info", "replication"))

    def move_slots(self, source: Redis, target: Redis) -> None:
        """Give every slot of one master to another, with what is in it."""
        ids = {node: node.ask("cluster", "myid").strip() for node in (source, target)}
        count = 16_384 // self.masters + 1
        words = ["--cluster-from", ids[source], "--cluster-to", ids[target], "--cluster-yes"]
        place = f"127.0.0.1:{source.port}"
        said = source.ask("--cluster", "reshard", place, *words, "--cluster-slots", str(count))
        slots = [line for line in source.ask("cluster", "nodes").splitlines() if "myself" in line]
        if len(slots[0].split()) > 8:
            raise RuntimeError(f"not every slot was moved: {said[-2_000:]}")

    def __exit__(self, *_error: Any) -> None:
        for node in self.nodes:
            node.__exit__()


def free_bus(port: int) -> bool:
    """Whether the bus's port of a node is free."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port + 10_000))
        except OSError:
            return False
    return True
