"""What a serving process asks of the system, in processes of their own: such settings cannot be taken back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from totalanvi.serving.endpoint.system_limits import allow_many_connections

USES_MEMORY = """
import resource, sys
from totalanvi.serving.endpoint.system_limits import keep_freed_memory

def use(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        # Freed in turns, as requests are.
        held = [bytearray(6 << 20) for _ in range(3)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
use(5)
print(use(20))
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", USES_MEMORY, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's parameters")
def test_memory_is_not_asked_for_page_by_page_again_and_again() -> None:
    """Of 360 MB, which are 92,160 pages."""
    assert faults("keep") < 1_000 < faults("leave")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_many_connections_are_allowed_as_far_as_the_system_lets_us() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        allow_many_connections()
        wanted = 16_384 if hard == resource.RLIM_INFINITY else min(16_384, hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
