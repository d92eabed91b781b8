"""/openapi.json says what the API does, and schemathesis finds no answer that it does not say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from http_door import serving

from atbr import Store


def test_every_path_of_the_document_is_there(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path, methods in document["paths"].items():
        allowed = client.request("PATCH", path.replace("{key}", "k")).headers["allow"]
        for method in methods:
            if method != "parameters":
                assert method.upper() in allowed, path


@pytest.mark.deep
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("st")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tsv").write_bytes(b"a\t1\n")
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with serving(Store(keys=bytes, values=bytes), data_dir=tmp_path / "data") as server:
        done = subprocess.run(
            [
                *(program, "run", f"{server.url}/openapi.json", "--max-examples", "50"),
                *("--checks", "all", "--seed", "1", "--no-color", "--continue-on-failure"),
                # Whether a valid request succeeds depends on what the store holds; and what the document leaves out,
                # such as headers that nobody knows, is passed over. test_http_api says what is refused.
                *("--exclude-checks", "negative_data_rejection,positive_data_acceptance"),
            ],
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


def test_the_document_is_json_of_this_version(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    assert json.loads(text)["info"]["version"] == client.get("/v1/stats").json()["version"]
