"""Object stores that speak S3."""

from __future__ import annotations

import json
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.processes import HOST, Server, found, free_port, output, running, temporary_folder

ACCESS_KEY, SECRET_KEY = "checkpoint", "checkpoint-secret"
BUCKET = "checkpoints"
REGION = "us-east-1"


def s3_url(endpoint: str, bucket: str = BUCKET, prefix: str = "") -> str:
    """The saver's URL of a bucket on a server; the credentials are those of `ACCESS_KEY`, by the environment."""
    return f"s3://{bucket}/{prefix}?{urlencode({'endpoint_url': endpoint, 'region_name': REGION})}"


@contextmanager
def radosgw() -> Iterator[Server]:
    """Ceph's object store with one monitor and one store in memory, and a user with `ACCESS_KEY`; no buckets."""
    programs = {
        name: found(name, package)
        for name, package in {
            "ceph-mon": "ceph-mon",
            "ceph-osd": "ceph-osd",
            "radosgw": "radosgw",
            "ceph": "ceph-common",
            "ceph-conf": "ceph-common",
            "ceph-authtool": "ceph-common",
            "monmaptool": "ceph-common",
            "radosgw-admin": "radosgw",
        }.items()
    }
    with temporary_folder("radosgw") as folder:
        cluster, monitor, port = str(uuid.uuid4()), free_port(), free_port()
        config, keyring = folder / "ceph.conf", folder / "keyring"
        # Debian 13 has it relative to the root: its services are started there.
        classes = Path(
            "/", output(programs["ceph-conf"], "-c", "/dev/null", "--show-config-value", "osd_class_dir").strip()
        )
        config.write_text(_config(folder, cluster, monitor, classes))
        common = ["-c", config]
        authtool = programs["ceph-authtool"]
        output(authtool, "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        allowed = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        output(authtool, keyring, "--gen-key", "-n", "client.admin", *allowed, "--cap", "mgr", "allow *")
        output(authtool, keyring, "--gen-key", "-n", "client.rgw.a", *allowed)
        address = f"[v2:{HOST}:{monitor}/0]"
        output(programs["monmaptool"], "--create", "--addv", "a", address, "--fsid", cluster, folder / "monmap")
        output(programs["ceph-mon"], *common, "--mkfs", "-i", "a", "--monmap", folder / "monmap", "--keyring", keyring)

        def ceph(*arguments: object) -> str:
            return output(programs["ceph"], *common, "--connect-timeout", 20, *arguments)

        def listens(where: int) -> bool:
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex((HOST, where)) == 0

        def log(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        def monitors() -> bool:
            return listens(monitor)

        mon = [programs["ceph-mon"], *common, "-f", "-i", "a"]
        with running(mon, log("run-mon"), monitors, stop=signal.SIGKILL):
            osd = str(uuid.uuid4())
            ceph("osd", "new", osd, "0")
            output(programs["ceph-osd"], *common, "-i", "0", "--mkfs", "--osd-uuid", osd)

            def stores() -> bool:
                return bool(json.loads(ceph("osd", "stat", "-f", "json")).get("num_up_osds"))

            osd_command = [programs["ceph-osd"], *common, "-f", "-i", "0"]
            with running(osd_command, log("run-osd"), stores, stop=signal.SIGKILL):
                plain = ["--auth_client_required", "none", "--ms_mon_client_mode", "crc"]
                gateway = [
                    programs["radosgw"], *common, "-f", "-n", "client.rgw.a", *plain,
                    f"--rgw_frontends=beast endpoint={HOST}:{port} tcp_nodelay=1",
                ]  # fmt: skip
                with running(gateway, log("run-rgw"), lambda: listens(port), stop=signal.SIGKILL) as pid:
                    output(programs["radosgw-admin"], *common, "-n", "client.rgw.a", *plain, "user", "create",
                           "--uid", "tests", "--display-name", "tests",
                           "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)  # fmt: skip
                    version = output(programs["radosgw"], "--version").split()[2]
                    yield Server(f"http://{HOST}:{port}", f"radosgw {version}", pid)


@contextmanager
def moto() -> Iterator[Server]:
    """moto's server: a mock, but one that honours every condition, over real HTTP."""
    with temporary_folder("moto") as folder:
        port = free_port()

        def listens() -> bool:
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex((HOST, port)) == 0

        # Not as a module, which the folder that it runs in lacks; -P, because its neighbours are called like packages.
        command = [sys.executable, "-P", Path(__file__).with_name("moto_server.py"), HOST, port]
        with running(command, folder, listens, stop=signal.SIGTERM) as pid:
            yield Server(f"http://{HOST}:{port}", "moto", pid)


def _config(folder: Path, cluster: str, monitor: int, classes: str) -> str:
    settings = {
        "fsid": cluster,
        "mon_host": f"v2:{HOST}:{monitor}/0",
        "keyring": folder / "keyring",
        "run_dir": folder,
        "log_file": "",
        "admin_socket": "",
        "mon_data": folder / "mon",
        "osd_data": folder / "osd",
        "rgw_data": folder / "rgw",
        "crash_dir": folder,
        "ms_bind_msgr1": "false",
        "ms_bind_ipv6": "false",
        "public_addr": HOST,
        "cluster_addr": HOST,
        "auth_cluster_required": "none",
        "auth_service_required": "none",
        "auth_client_required": "none",
        "osd_crush_chooseleaf_type": 0,
        "osd_pool_default_size": 1,
        "osd_pool_default_min_size": 1,
        "osd_pool_default_pg_num": 4,
        "osd_pool_default_pg_autoscale_mode": "off",
        "mon_allow_pool_size_one": "true",
        "mon_warn_on_pool_no_redundancy": "false",
        "osd_objectstore": "memstore",
        "memstore_device_bytes": 2147483648,
        "osd_class_dir": Path("/", classes),  # on Debian 13 it is relative to where the system starts services
        "osd_class_load_list": "*",
        "osd_class_default_list": "*",
        "paxos_propose_interval": 0.05,
        "rgw_override_bucket_index_max_shards": 1,
        "rgw_enable_usage_log": "false",
        # By default they keep what they do in memory, for the log of a crash: a fifth of their work.
        **{f"debug_{part}": "0/0" for part in ("ms", "objclass", "objecter", "osd", "rgw")},
        "osd_enable_op_tracker": "false",
    }
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
