"""Runs the tests; what failed is run once more, alone, when it is little, and is named.

    python -m fraud_assets_tests.once_more [options of pytest]

Among thousands of tests with real processes, signals and browsers, side by side on a busy machine, one fails now and
then that passes by itself. That is still a fault, of the test or a race in the platform: it is printed last, and is
mended, not waited for. More than `FEW` failures are never run again, and neither is anything else that ends a run.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

FEW = 2


class Failures:
    """A plugin of pytest that notes which tests failed, in setting up and clearing away, too."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)


def main(arguments: list[str]) -> int:
    """Runs pytest with these arguments, and what failed once more.

    Returns:
        Its exit code; 0 when the few tests that failed pass alone.
    """
    failures = Failures()
    code = int(pytest.main(arguments, plugins=[failures]))
    if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failures.names) <= FEW:
        return code
    names = "\n".join(failures.names)
    print(f"\nonce more, alone:\n{names}", flush=True)
    # In a process of its own: nothing of the first run is left in it.
    code = subprocess.run([sys.executable, "-m", "pytest", *failures.names]).returncode
    if code == 0:
        print(f"PASSED ONLY ALONE, which is a fault of the test or a race in the platform; mend it:\n{names}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
