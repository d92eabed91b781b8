"""Cassandra from Maven Central's jars: one node, or three on 127.0.0.1 to 127.0.0.3."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import uuid
from pathlib import Path
from typing import Any

from engines.processes import Process, Service, folder, free_port

VERSION = "5.0.9"
CONSISTENCY = {"ONE": 1, "ALL": 5}

OPENS = """java.io java.lang java.lang.module java.lang.reflect java.nio java.util jdk.internal.loader
 jdk.internal.math jdk.internal.module jdk.internal.ref jdk.internal.reflect jdk.internal.util.jar
 sun.nio.ch jdk.compiler/com.sun.tools.javac jdk.management/com.sun.management.internal"""
EXPORTS = """java.lang.ref jdk.internal.misc jdk.internal.ref sun.nio.ch java.rmi/sun.rmi.registry
 java.rmi/sun.rmi.server java.sql/java.sql java.management.rmi/com.sun.jmx.remote.internal.rmi
 jdk.attach/sun.tools.attach jdk.compiler/com.sun.tools.javac.file jdk.unsupported/sun.misc"""
SMALL_HEAP = "512m"
# A quick start; settling and announcing are for clusters of many machines.
JVM = """-Xms128m -Xss512k -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData
 -Djava.net.preferIPv4Stack=true -Djdk.attach.allowAttachSelf=true
 -Dio.netty.tryReflectionSetAccessible=true -Dcassandra-foreground=yes
 -Dcassandra.ring_delay_ms=5000 -Dcassandra.skip_wait_for_gossip_to_settle=0
 -Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.shutdown_announce_in_ms=100"""
LOGBACK = """<configuration><appender name="F" class="ch.qos.logback.core.FileAppender">
<file>{folder}/system.log</file><encoder><pattern>%-5level %date{{ISO8601}} %F:%L %msg%n</pattern>
</encoder></appender><root level="INFO"><appender-ref ref="F"/></root></configuration>
"""
# The commit log is written before a write is acknowledged (batch): a killed node loses nothing.
SETTINGS = """
cluster_name: {cluster}
num_tokens: 1
initial_token: '{token}'
auto_bootstrap: false
endpoint_snitch: SimpleSnitch
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
storage_compatibility_mode: NONE
commitlog_sync: batch
auto_snapshot: false
hints_flush_period: 1000ms
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seeds}"}}]
listen_address: {host}
rpc_address: {host}
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
data_file_directories: ['{folder}/data']
commitlog_directory: '{folder}/commitlog'
hints_directory: '{folder}/hints'
cdc_raw_directory: '{folder}/cdc_raw'
saved_caches_directory: '{folder}/saved_caches'
commitlog_segment_size: 32MiB
commitlog_total_space: 512MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
memtable_allocation_type: heap_buffers
key_cache_size: 8MiB
counter_cache_size: 2MiB
file_cache_size: 32MiB
networking_cache_size: 16MiB
concurrent_reads: 8
concurrent_writes: 16
concurrent_counter_writes: 8
concurrent_compactors: 1
disk_access_mode: mmap_index_only
read_request_timeout: 15s
range_request_timeout: 20s
write_request_timeout: 10s
cas_contention_timeout: 5s
truncate_request_timeout: 60s
request_timeout: 20s
"""


def cache() -> Path:
    """Return the folder of the jars; tools/engines.sh fills it."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "atbr" / f"cassandra-{VERSION}"


def jars() -> list[Path]:
    """Return the jars, if all of them are there."""
    folder = cache()
    return sorted(folder.glob("*.jar")) if (folder / "complete").exists() else []


class Node(Service):
    """One node."""

    def __init__(self, cluster: Cassandra, number: int) -> None:
        self.cluster = cluster
        self.host = cluster.hosts[number]
        self.token = -(2**63) + 2**64 // len(cluster.hosts) * number
        self.folder = cluster.folder / self.host
        (self.folder / "tmp").mkdir(parents=True)
        (self.folder / "triggers").mkdir()

    def launch(self) -> None:
        """Start the node without waiting for it."""
        cluster = self.cluster
        seeds = ",".join(f"{host}:{cluster.storage}" for host in cluster.hosts)
        settings = SETTINGS.format(
            cluster=cluster.name,
            token=self.token,
            seeds=seeds,
            host=self.host,
            storage=cluster.storage,
            port=cluster.port,
            folder=self.folder,
        )
        settings += "authenticator: PasswordAuthenticator\n" if cluster.login else ""
        (self.folder / "cassandra.yaml").write_text(settings)
        (self.folder / "logback.xml").write_text(LOGBACK.format(folder=self.folder))
        agent = next(path for path in jars() if path.name.startswith("jamm-"))
        properties = {
            "java.io.tmpdir": self.folder / "tmp",
            "jna.tmpdir": self.folder / "tmp",
            "cassandra.config": f"file://{self.folder}/cassandra.yaml",
            "cassandra.storagedir": self.folder,
            "cassandra.logdir": self.folder,
            "cassandra.triggers_dir": self.folder / "triggers",
            "logback.configurationFile": self.folder / "logback.xml",
        }
        command = ["java", *JVM.split(), f"-Xmx{cluster.heap}", *_modules()]
        if cluster.heap == SMALL_HEAP:
            command += ["-XX:TieredStopAtLevel=1", "-XX:MaxDirectMemorySize=256m"]
        command += [f"-D{name}={value}" for name, value in properties.items()]
        command += [f"-javaagent:{agent}", "-cp", f"{cache()}/*"]
        command += ["org.apache.cassandra.service.CassandraDaemon"]
        self.process = Process(command, self.folder / "java.log")

    def wait(self) -> None:
        """Wait until the node answers, and sees the others."""
        if self.process:
            self.process.wait_until(self._answers)

    def _answers(self) -> bool:
        whole = len(self.cluster.nodes) > 1 and all(
            node.process and node.process.alive for node in self.cluster.nodes
        )
        try:
            self._query("SELECT release_version FROM system.local", CONSISTENCY["ONE"])
            if whole:
                # This table has three replicas: all nodes have to see each other.
                table = "system_distributed.view_build_status"
                where = "keyspace_name='x' AND view_name='x'"
                self._query(f"SELECT * FROM {table} WHERE {where}", CONSISTENCY["ALL"])
        except OSError:
            return False
        return True

    def _query(self, text: str, consistency: int) -> None:
        # STARTUP, AUTH_RESPONSE and QUERY of the native protocol, version 4: no driver is needed to wait.
        startup = b"\0\1\0\x0bCQL_VERSION\0\0053.4.7"
        login = b"\0cassandra\0cassandra"
        body = text.encode()
        query = struct.pack(">i", len(body)) + body + struct.pack(">HB", consistency, 0)
        with (
            socket.create_connection((self.host, self.cluster.port), 20) as connection,
            connection.makefile("rb") as answers,
        ):
            steps = [(1, startup, 2), (7, query, 8)]
            if self.cluster.login:
                answer = struct.pack(">i", len(login)) + login
                steps[:1] = [(1, startup, 3), (15, answer, 16)]
            for opcode, frame, expected in steps:
                connection.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(frame)) + frame)
                head = answers.read(9)
                if len(head) < 9 or head[4] != expected:
                    raise OSError("no answer, or an error")
                answers.read(struct.unpack(">i", head[5:])[0])


class Cassandra:
    """A cluster of one node or three; with `login` of the user and the password "cassandra".

    A larger `heap` for each is for benchmarks, and goes with the JVM's best compiler.
    """

    def __init__(self, nodes: int = 1, *, login: bool = False, heap: str = SMALL_HEAP) -> None:
        self.login = login
        self.heap = heap
        self.hosts = tuple(f"127.0.0.{number + 1}" for number in range(nodes))
        self.name = f"atbr{uuid.uuid4().hex[:8]}"
        self.folder = folder("cassandra")
        self.port = free_port(self.hosts)
        self.storage = free_port(self.hosts)
        self.nodes = [Node(self, number) for number in range(nodes)]
        places = ",".join(f"{host}:{self.port}" for host in self.hosts)
        user = "cassandra:cassandra@" if login else ""
        self.url = f"cassandra://{user}{places}/atbr?replication={nodes}"

    def __enter__(self) -> Cassandra:
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def pause(self) -> None:
        """Stop every node, connections staying open."""
        for node in self.nodes:
            node.pause()

    def go_on(self) -> None:
        """Undo `pause`."""
        for node in self.nodes:
            node.go_on()

    def __exit__(self, *_error: Any) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _modules() -> list[str]:
    flags = []
    for flag, packages in (("--add-opens", OPENS), ("--add-exports", EXPORTS)):
        for package in packages.split():
            name = package if "/" in package else f"java.base/{package}"
            flags += [flag, f"{name}=ALL-UNNAMED"]
    return flags
