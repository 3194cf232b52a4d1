import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import folder_hash
from nacre.registry import ArtifactStore


def model(folder: Path, weights: str = "weights") -> Path:
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_text(weights)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_the_name_is_the_content_and_publishing_again_changes_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    source = model(tmp_path / "out")
    sha = store.publish_folder(source)
    assert sha == folder_hash(source) == folder_hash(store.path(sha))
    before = (store.path(sha) / "model.safetensors").stat()
    assert store.publish_folder(source) == sha
    assert (store.path(sha) / "model.safetensors").stat().st_ino == before.st_ino
    assert store.publish_folder(model(tmp_path / "other", "other weights")) != sha
    assert store.verify_all() == []


def test_files_are_read_only_and_the_source_is_left_alone(store: ArtifactStore, tmp_path: Path) -> None:
    source = model(tmp_path / "out")
    sha = store.publish_folder(source)
    modes = [path.stat().st_mode & 0o222 for path in store.path(sha).rglob("*") if path.is_file()]
    assert modes == [0, 0]
    assert (source / "model.safetensors").stat().st_mode & 0o200


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "optimizer.pt", "a.pth", "last.ckpt", "x.PKL", "tokenizer/training_args.bin"]
)
def test_pickles_are_refused_before_anything_is_copied(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    source = model(tmp_path / "out")
    (source / name).write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="safetensors") as caught:
        store.publish_folder(source)
    assert caught.value.where.endswith(name)
    assert store.names() == []


def test_empty_folders_and_links_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files"):
        store.publish(lambda folder: None)
    with pytest.raises(InputError, match="plain file"):
        store.publish(lambda folder: (folder / "model.safetensors").symlink_to("/etc/hostname"))
    with pytest.raises(InputError, match="does not exist"):
        store.publish_folder(tmp_path / "nowhere")
    assert not list(store.root.glob(".staging-*"))


def test_links_in_a_source_folder_are_copied_as_files(store: ArtifactStore, tmp_path: Path) -> None:
    source = model(tmp_path / "out")
    (source / "config.json").symlink_to(source / "tokenizer" / "tokenizer.json")
    stored = store.path(store.publish_folder(source)) / "config.json"
    assert stored.read_text() == "{}"
    assert not stored.is_symlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "extra.json").write_text("{}"), "extra.json was added"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").chmod(0o644), ""),
        (lambda folder: flip(folder / "model.safetensors"), "model.safetensors was changed"),
    ],
)
def test_verify_names_the_damaged_file(store: ArtifactStore, tmp_path: Path, damage, said: str) -> None:
    good = store.publish_folder(model(tmp_path / "good", "good"))
    sha = store.publish_folder(model(tmp_path / "out"))
    damage(store.path(sha))
    if not said:
        store.verify(sha)
        return
    with pytest.raises(NacreError, match=said) as caught:
        store.verify(sha)
    assert caught.value.fix
    assert [error.what for error in store.verify_all()] == [caught.value.what]
    store.verify(good)


def flip(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("wEights")


def test_a_missing_artifact_is_named_by_verify_all(store: ArtifactStore, tmp_path: Path) -> None:
    sha = store.publish_folder(model(tmp_path / "out"))
    store.path(sha).rename(tmp_path / "away")
    assert [sha[:12] in error.what and "missing" in error.what for error in store.verify_all()] == [True]
    with pytest.raises(InputError, match="no artifact name"):
        store.path("../../etc")


def test_the_list_of_files_proves_itself(store: ArtifactStore, tmp_path: Path) -> None:
    sha = store.publish_folder(model(tmp_path / "out"))
    listing = store.root / f"{sha}.json"
    listing.chmod(0o644)
    listing.write_text('{"model.safetensors": "0"}')
    store.verify(sha)  # the content decides
    flip(store.path(sha) / "model.safetensors")
    with pytest.raises(NacreError, match="so is its list"):
        store.verify(sha)


def test_publishing_the_good_content_again_replaces_a_damaged_copy(store: ArtifactStore, tmp_path: Path) -> None:
    source = model(tmp_path / "out")
    sha = store.publish_folder(source)
    flip(store.path(sha) / "model.safetensors")
    assert store.publish_folder(source) == sha
    store.verify(sha)
    aside = list(store.root.glob(f".damaged-{sha}-*"))
    assert [(folder / "model.safetensors").read_text() for folder in aside] == ["wEights"]


def test_a_full_disk_leaves_nothing_behind(store: ArtifactStore, tmp_path: Path) -> None:
    def overflow(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        with open("/dev/full", "w") as file:  # the kernel's own ENOSPC
            file.write("x" * 100_000)

    with pytest.raises(NacreError, match="disk is full") as caught:
        store.publish(overflow)
    assert str(store.root) in caught.value.where
    assert store.names() == []
    assert not list(store.root.glob(".staging-*"))


def test_a_full_file_system(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        store = ArtifactStore(disk / "artifacts")
        small = store.publish_folder(model(tmp_path / "small"))
        with pytest.raises(NacreError, match="disk is full"):
            store.publish_folder(model(tmp_path / "large", "x" * 200_000))
        assert store.names() == [small]
        assert store.verify_all() == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_sweep_removes_what_a_killed_process_left_and_nothing_of_a_living_one(store: ArtifactStore) -> None:
    script = (
        "import sys, time; from pathlib import Path; from nacre.registry.store import ArtifactStore\n"
        "def fill(folder):\n"
        "    (folder / 'model.safetensors').write_text('half'); print(folder.name, flush=True); time.sleep(60)\n"
        "ArtifactStore(Path(sys.argv[1])).publish(fill)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(store.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        names = [process.stdout.readline().strip() for process in started if process.stdout]
        assert store.sweep() == []
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        assert store.sweep() == [names[0]]
        assert [folder.name for folder in store.root.glob(".staging-*")] == [names[1]]
        assert store.names() == []
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def test_processes_that_publish_the_same_at_once_agree(store: ArtifactStore) -> None:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_text("same")
        time.sleep(0.2)  # both have filled their folder before either renames

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if len(store.publish(fill)) == 64 else 1
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(store.names()) == 1
    assert store.verify_all() == []
