"""One suite that every backend passes against its real engine; shipped, so that others can test theirs.

With pytest, inherit and name the engine; without, `python -m atbr.tables.conformance URL`::

    class TestMyEngine(Conformance):
        url = "redis://127.0.0.1:6379"

>>> class Local(Conformance):
...     url = "local://docs"
>>> Local.run_all()[1]
[]
"""

from __future__ import annotations

from atbr.tables.conformance.lifetime import Lifetime
from atbr.tables.conformance.many_keys import ManyKeys
from atbr.tables.conformance.order import Order
from atbr.tables.conformance.parallel import Parallel
from atbr.tables.conformance.schemas import Schemas
from atbr.tables.conformance.single_keys import SingleKeys
from atbr.tables.conformance.words import Words


class Conformance(SingleKeys, ManyKeys, Order, Schemas, Parallel, Lifetime, Words):
    """All of the suite. Set `url`, or override `connect`.

    >>> Conformance.url
    ''
    """


__all__ = ["Conformance"]
