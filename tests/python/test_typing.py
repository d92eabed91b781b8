"""The file of typed usage runs as well as it checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from atbr import Store

pytest.importorskip("typing_extensions")


def test_typed_usage_runs(tmp_path: Path) -> None:
    import typing_usage

    typing_usage.plain()
    typing_usage.of_bytes()
    typing_usage.coded()
    typing_usage.files(str(tmp_path / "x.tsv"))
    with pytest.raises(TypeError):
        typing_usage.mistakes(Store(), Store(values=bytes))
