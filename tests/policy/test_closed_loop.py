"""The policy in closed loop with a load that it changes: no flapping, nobody starves, everything comes back.

The figures are printed with `-s`; `python -m tests.policy.simulator` prints them as a table.
"""

import pytest

from tests.policy.simulator.cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_in_closed_loop(name: str) -> None:
    """Each case asserts its own expectation; its docstring states it."""
    print(f"\n{CASES[name].behaviour}\n  {CASES[name].check()}")  # noqa: T201 - the figures are for people, with -s
