"""Prints the table of measured behaviour: `python -m tests.policy.simulator`, or with names of cases."""

import sys

from tests.policy.simulator.cases import CASES


def main() -> None:
    """Run the cases named, or all; a wrong expectation is an AssertionError."""
    sys.stdout.write("| rule | scenario | measured |\n|---|---|---|\n")
    for name in sys.argv[1:] or CASES:
        case = CASES[name]
        sys.stdout.write(f"| {case.rule} | {case.behaviour} | {case.check()} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
