"""What memory a container leaves, from cgroup files like those of both versions."""

from __future__ import annotations

from pathlib import Path

from totalanvi.machine.memory import bytes_of_memory


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_memory_is_what_a_container_leaves(tmp_path: Path) -> None:
    machine = bytes_of_memory(tmp_path / "none", tmp_path / "none")
    assert machine > 2**20
    write(tmp_path / "membership", "0::/pod/app\n")
    write(tmp_path / "cgroup" / "pod" / "memory.max", "4096\n")
    write(tmp_path / "cgroup" / "pod" / "app" / "memory.max", "max\n")
    assert bytes_of_memory(tmp_path / "cgroup", tmp_path / "membership") == 4096
    write(tmp_path / "membership", "5:cpu,cpuacct:/app\n4:memory:/app\n")
    write(tmp_path / "cgroup" / "memory" / "app" / "memory.limit_in_bytes", "8192\n")
    assert bytes_of_memory(tmp_path / "cgroup", tmp_path / "membership") == 8192
