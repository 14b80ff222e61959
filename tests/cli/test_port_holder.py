import os
import socket
import sys
from pathlib import Path

import pytest

from waypost.cli.port_holder import find_holder

HEAD = "  sl  local_address rem_address   st tx_queue:rx_queue tr:when retrnsmt uid timeout inode"


def proc_with(tmp_path: Path, *, state: str = "0A", port: int = 8300, inode: int = 777) -> Path:
    line = f"   0: 0100007F:{port:04X} 00000000:0000 {state} 0:0 00:0 0 0 0 {inode} 1"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(f"{HEAD}\n{line}\n")
    (tmp_path / "42" / "fd").mkdir(parents=True)
    (tmp_path / "42" / "fd" / "3").symlink_to("socket:[777]")
    (tmp_path / "42" / "cmdline").write_bytes(b"redis-server\0*:8300\0")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_process_that_listens_is_found_by_its_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        holder = find_holder(listener.getsockname()[1])

    assert holder is not None
    assert holder.pid == os.getpid()
    assert "python" in holder.command


def test_its_command_is_told(tmp_path: Path) -> None:
    assert str(find_holder(8300, proc_with(tmp_path))) == "process 42 (redis-server *:8300)"


def test_a_connection_is_not_a_listener(tmp_path: Path) -> None:
    assert find_holder(8300, proc_with(tmp_path, state="01")) is None


def test_another_port_is_another_port(tmp_path: Path) -> None:
    assert find_holder(8301, proc_with(tmp_path)) is None


def test_a_process_that_hides_its_descriptors_is_not_named(tmp_path: Path) -> None:
    assert find_holder(8300, proc_with(tmp_path, inode=778)) is None


def test_a_system_without_proc_tells_nothing(tmp_path: Path) -> None:
    assert find_holder(8300, tmp_path / "nothing") is None


def test_a_long_command_is_cut(tmp_path: Path) -> None:
    proc = proc_with(tmp_path)
    (proc / "42" / "cmdline").write_bytes(b"x" * 500)

    holder = find_holder(8300, proc)

    assert holder is not None
    assert len(holder.command) == 80
