"""What the tests of serving share."""

from __future__ import annotations

import pytest
from tests.support.command_line import Run, runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, stdout, stderr."""
    return runner(capsys)
