"""Options of a profile that reach submitit."""

from pathlib import Path
from typing import Any

import pytest
import submitit

from polarcast.slurm.profile import Profile
from polarcast.slurm.render import Job
from polarcast.slurm.submit import by_submitit


class _Executor:
    def __init__(self, **_: Any) -> None:
        self.parameters: dict[str, Any] = {}

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters.update(parameters)

    def submit(self, _: Any) -> Any:
        type(self).last = self.parameters  # type: ignore[attr-defined]
        return type("Job", (), {"job_id": "1"})


def parameters_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *options: str) -> dict[str, Any]:
    monkeypatch.setattr(submitit, "AutoExecutor", _Executor)
    by_submitit(Profile(options=list(options)), Job(("train", "demo"), "demo"), tmp_path)
    return _Executor.last["slurm_additional_parameters"]  # type: ignore[attr-defined,no-any-return]


def test_further_options_reach_submitit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = parameters_of(monkeypatch, tmp_path, "--exclusive", "--gres=lscratch:100")
    assert found["exclusive"] is True
    assert found["gres"] == "lscratch:100"


@pytest.mark.parametrize("option", ["-w n1", "--job-name=x", "--nodelist n1"])
def test_options_that_submitit_can_not_take_are_refused(
    option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^options: .* is not supported by submitit"):
        parameters_of(monkeypatch, tmp_path, option)
