"""A large-scale in-memory key-value store: a dict with a tenth of the overhead.

>>> import atbr
>>> store = atbr.Store({"alpha": "α"})
>>> store["alpha"]
'α'
"""

from __future__ import annotations

from atbr import compat
from atbr._core import LoadReport, ManualClock, SaveReport, StoreFull, __version__
from atbr.codecs import JSON, Codec
from atbr.files import LoadError
from atbr.legacy import Atbr
from atbr.memoize import cached
from atbr.progress import Progress
from atbr.stats import StoreStats
from atbr.store import Store

__all__ = [
    "JSON",
    "Atbr",
    "Codec",
    "LoadError",
    "LoadReport",
    "ManualClock",
    "Progress",
    "SaveReport",
    "Store",
    "StoreFull",
    "StoreStats",
    "__version__",
    "cached",
    "compat",
]
