import json
import os
import urllib.request
from pathlib import Path

import pytest
from tests.cli.programs import Running, World

import waypost


def fill(registry: Running, count: int = 3) -> None:
    with waypost.connect(registry.native, cache_dir=None) as client:
        for n in range(count):
            client.register("web", id=f"w{n}", host="127.0.0.1", port=8000 + n, ttl=0)


def save(world: World, registry: Running, file: Path) -> None:
    done = world.run("snapshot", "save", str(file), "--http", registry.ready["http"])
    assert done.code == 0, done


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of three instances, taken of a registry that is gone."""
    directory = tmp_path_factory.mktemp("saved")
    world = World(directory)
    with world.serving("--data-dir", str(directory / "data")) as registry:
        fill(registry)
        save(world, registry, directory / "saved.snap")
        registry.stop()
    return directory / "saved.snap"


def test_a_saved_snapshot_can_be_looked_into(world: World, saved: Path) -> None:
    told = world.run("snapshot", "inspect", str(saved))

    assert told.code == 0
    assert told.json["contents"]["instances"] == 3
    assert told.json["contents"]["services"] == 1
    assert told.json["snapshot"]["damage"] == ""
    assert told.json["snapshot"]["index"] == told.json["contents"]["revision"]


def test_what_is_restored_serves_what_was_saved_as_a_cluster_of_its_own(
    world: World, saved: Path, tmp_path: Path
) -> None:
    data = tmp_path / "new"
    before = world.run("snapshot", "inspect", str(saved)).json

    restored = world.run("snapshot", "restore", str(saved), "--data-dir", str(data), "--name", "b")

    assert restored.code == 0
    assert restored.json["cluster"] != restored.json["from_cluster"]
    assert restored.json["from_cluster"] == before["snapshot"]["cluster"]
    with world.serving("--data-dir", str(data), "--name", "b") as registry:
        status = world.run("status", server=registry.native).json
        assert (status["instances"], status["cluster"]) == (3, restored.json["cluster"])
        assert status["revision"] == before["contents"]["revision"]
        fill(registry, 4)
        after = world.run("status", server=registry.native).json
        assert (after["instances"], after["revision"] > status["revision"]) == (4, True)
        registry.stop()
    with world.serving("--data-dir", str(data), "--name", "b") as registry:
        assert world.run("status", server=registry.native).json["instances"] == 4


def test_a_data_directory_that_holds_anything_is_not_restored_into(
    world: World, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("precious")

    done = world.run("snapshot", "restore", str(saved), "--data-dir", str(tmp_path / "full"))

    assert done.code == 64
    assert "not empty" in done.err
    assert os.listdir(tmp_path / "full") == ["something"]


def test_a_node_name_that_no_node_may_have_is_refused_before_anything_is_made(
    world: World, saved: Path, tmp_path: Path
) -> None:
    done = world.run(
        "snapshot", "restore", str(saved), "--data-dir", str(tmp_path / "new"), "--name", "No!"
    )

    assert done.code == 64
    assert "name" in done.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("cut", [10, 100, -1])
def test_a_damaged_file_is_named_and_not_restored(
    world: World, saved: Path, tmp_path: Path, cut: int
) -> None:
    damaged = tmp_path / "damaged.snap"
    damaged.write_bytes(saved.read_bytes()[:cut])

    told = world.run("snapshot", "inspect", str(damaged))
    restored = world.run("snapshot", "restore", str(damaged), "--data-dir", str(tmp_path / "new"))

    assert told.code == 65
    assert told.json["snapshot"]["damage"]
    assert restored.code == 65
    assert not (tmp_path / "new").exists()
    assert not any(path.name.endswith(".restoring") for path in tmp_path.iterdir())


def test_a_data_directory_can_be_looked_into_while_its_node_runs_and_after(
    world: World, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with world.serving("--data-dir", str(data)) as registry:
        fill(registry)
        running = world.run("snapshot", "inspect", str(data))
        pid = str(registry.process.pid)
        registry.stop()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in data.iterdir())

    stopped = world.run("snapshot", "inspect", str(data))

    assert (running.code, stopped.code) == (0, 0)
    assert (running.json["in_use_by"], stopped.json["in_use_by"]) == (pid, "")
    assert running.json["contents"]["instances"] == 3
    assert running.json["contents"]["digest"] == stopped.json["contents"]["digest"]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in data.iterdir()) == before


def test_damage_in_a_data_directory_is_told(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with world.serving("--data-dir", str(data)) as registry:
        fill(registry)
        registry.stop()
    (log,) = data.glob("wal-*.log")
    raw = bytearray(log.read_bytes())
    raw[raw.index(b"127.0.0.1")] ^= 0xFF  # in the first registration, which others follow
    log.write_bytes(raw)

    told = world.run("snapshot", "inspect", str(data))

    assert told.code == 65
    assert any(log.name in each for each in told.json["damage"])


def test_people_are_told_in_a_table(world: World, saved: Path) -> None:
    shown = world.on_a_terminal("snapshot", "inspect", str(saved))

    assert shown.code == 0
    assert "1 services, 3 instances" in shown.out


def test_a_directory_that_is_none_of_a_node_is_refused(world: World, tmp_path: Path) -> None:
    done = world.run("snapshot", "inspect", str(tmp_path))

    assert done.code == 64
    assert "neither a log nor a snapshot" in done.err


def test_nobody_there_is_no_answer_and_leaves_no_file(world: World, tmp_path: Path) -> None:
    done = world.run("snapshot", "save", str(tmp_path / "x.snap"), "--http", "127.0.0.1:1")

    assert done.code == 3
    assert "127.0.0.1:1" in done.err
    assert list(tmp_path.glob("*x.snap*")) == []


def test_curl_saves_what_snapshot_save_does(world: World, tmp_path: Path) -> None:
    with world.serving() as registry:
        fill(registry)
        url = f"http://{registry.ready['http']}/api/v1/snapshot"
        with urllib.request.urlopen(url) as answer:
            (tmp_path / "curl.snap").write_bytes(answer.read())
        save(world, registry, tmp_path / "own.snap")

    told = [world.run("snapshot", "inspect", str(p)).json for p in tmp_path.glob("*.snap")]
    assert told[0]["contents"] == told[1]["contents"]
    assert json.dumps(told[0]["contents"]["instances"]) == "3"
