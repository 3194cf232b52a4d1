"""Two hosts that share a disk and a cable train one model, and what becomes of it when one is gone. gloo, no GPU."""

import json

import pytest
from lost_kit import TAG, Yard, kill, until, workers, yard

from hosts_kit import Host, hosts

__all__ = ["hosts", "yard"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def both(yard: Yard, hosts: tuple[Host, Host], *more: str, **variables: str):
    """The command on each host, as the documents have it."""
    together = ["--launch", "torchrun", "--processes", "1", "--nodes", "2", "--master", f"{hosts[0].address}:29500"]
    return [
        host.start(*yard.words(*together, "--node_rank", str(rank), *more, batch=4), cwd=yard.root, **variables)
        for rank, host in enumerate(hosts)
    ]


def test_two_hosts_go_on_without_a_lost_worker_to_the_loss_of_one_process(yard, hosts):
    tag = f"{yard.root}"
    running = both(yard, hosts, "--restarts", "1", **{TAG: tag})
    yard.until_saved(running)
    before = workers(tag)
    assert before.keys() == {0, 1}
    kill(before[1])
    (out, told), (_, told_other) = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], (told, told_other)
    found = json.loads(out)
    assert any("the group began again" in note and "process" in note for note in found["notes"]), found["notes"]
    assert any(note.startswith("resumed from checkpoint-") for note in found["notes"]), found["notes"]
    alone = yard.alone()
    assert found["steps"] == alone["steps"]
    assert found["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-4)
    assert workers(tag) == {}


def test_a_host_that_is_cut_off_ends_the_group_and_the_same_commands_go_on(yard, hosts):
    tag = f"{yard.root}"
    running = both(yard, hosts, NACRE_LOST_AFTER_S="10", **{TAG: tag})
    yard.until_saved(running)
    hosts[1].cable(plugged=False)
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [1, 1], said
    assert "Traceback" not in "".join(stderr for _, stderr in said)
    errors = [json.loads(stdout)["error"] for stdout, _ in said]
    assert errors[0]["what"] == "machine 1 did not answer for 10 s, seen from machine 0"
    assert f"it goes on from {yard.checkpoints()[-1].name}" in errors[0]["fix"]
    assert errors[1]["what"] == "machine 0 did not answer for 10 s, seen from machine 1"
    until(lambda: workers(tag) == {})
    assert not (yard.root / "out").exists()
    hosts[1].cable(plugged=True)
    running = both(yard, hosts)
    (out, told), (_, told_other) = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], (told, told_other)
    found, alone = json.loads(out), yard.alone()
    assert any(note.startswith("resumed from checkpoint-") for note in found["notes"]), found["notes"]
    assert found["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-4)
