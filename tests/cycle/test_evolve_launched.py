"""`nacre evolve --launch`: an increment that two processes train is judged, kept and promoted as ever."""

import json
from importlib.util import find_spec

import pytest

from workspace_kit import Place, start, write_increment

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make install-ray")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("ray", marks=needs_ray)])
def test_an_increment_trained_by_two_processes_goes_the_whole_way(
    lived_in: Place, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_increment(lived_in.dataset, "increment_2", "place")
    running = start("evolve", "increment_2", "--launch", launcher, "--processes", "2", "--json", cwd=lived_in.root)
    out, said = running.communicate()
    assert running.returncode == 0, said
    found = json.loads(out)
    assert (found["trained"], found["version"], found["parent"], found["promoted"]) == (True, 3, 2, True)
    assert found["tasks"]["increment_2"]["after"] > found["tasks"]["increment_2"]["before"] + 0.5
    assert {"base", "increment_1", "increment_2"} <= set(found["tasks"])
    assert lived_in.champion() == 3
    assert lived_in.json("verify")["faults"] == []
