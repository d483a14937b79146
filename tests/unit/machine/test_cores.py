"""Counting cores from cgroup files like those of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from totalanvi.machine.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_cgroups(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("250000 100000", 3), ("20000 100000", 1), ("9900000 100000", 8), ("nonsense", 8)],
)
def test_version_2(tmp_path: Path, limit: str, cores: int) -> None:
    write(tmp_path / "membership", "0::/\n")
    write(tmp_path / "cpu.max", limit)
    assert usable_cores(tmp_path, tmp_path / "membership") == cores


def test_version_2_tightest_ancestor_holds(tmp_path: Path) -> None:
    write(tmp_path / "membership", "0::/kubepods/pod1/container\n")
    write(tmp_path / "kubepods/pod1/cpu.max", "400000 100000")
    write(tmp_path / "kubepods/pod1/container/cpu.max", "max 100000")
    assert usable_cores(tmp_path, tmp_path / "membership") == 4


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("150000", 2)])
def test_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path / "membership", "12:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n")
    write(tmp_path / "cpu,cpuacct/docker/a/cpu.cfs_quota_us", quota)
    write(tmp_path / "cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000")
    write(tmp_path / "memory/docker/a/cpu.max", "100000 100000")
    assert usable_cores(tmp_path, tmp_path / "membership") == cores
