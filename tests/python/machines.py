"""hypothesis state machines as test cases."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings


def cases(machines: list[type[Any]], examples: int, steps: int) -> list[type[Any]]:
    """Return a test case for each machine."""
    made = []
    for machine in machines:
        case = type(machine.__name__, (machine.TestCase,), {})
        case.settings = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        made.append(case)
    return made
