from pathlib import Path

import pytest
import torch
from torch import nn

from polarcast.hpc.checkpoint import Progress, is_complete, load, newest, save


def trained(steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Conv2d(3, 1, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(steps):
        advance(model, optimizer, step)
    return model, optimizer


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    optimizer.zero_grad()
    model(torch.randn(4, 2, 8, 8, generator=generator)).square().mean().backward()
    optimizer.step()


def test_a_continued_run_equals_the_undisturbed_one_bit_for_bit(tmp_path: Path) -> None:
    undisturbed, _ = trained(6)
    model, optimizer = trained(3)
    save(tmp_path, model, optimizer, Progress(step=3), keep=2)
    fresh, fresh_optimizer = trained(0)
    found = newest(tmp_path)
    assert found is not None
    progress = load(found, fresh, fresh_optimizer)
    for step in range(progress.step, 6):
        advance(fresh, fresh_optimizer, step)
    for a, b in zip(undisturbed.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_progress_survives(tmp_path: Path) -> None:
    model, optimizer = trained()
    written = Progress(step=8, best_step=4, best_score=0.25)
    assert load(save(tmp_path, model, optimizer, written, keep=1), model, optimizer) == written


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "progress.json", "sums.json"])
@pytest.mark.parametrize("damage", ["truncated", "removed", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    model, optimizer = trained()
    older = save(tmp_path, model, optimizer, Progress(step=1), keep=5)
    victim = save(tmp_path, model, optimizer, Progress(step=2), keep=5) / file
    content = victim.read_bytes()
    if damage == "removed":
        victim.unlink()
    else:
        middle = len(content) // 2
        changed = content[:middle] if damage == "truncated" else content[:-3] + b"\xff" + content[-2:]
        victim.write_bytes(changed)
    assert not is_complete(victim.parent)
    assert newest(tmp_path) == older


def test_a_kill_while_saving_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = trained()
    older = save(tmp_path, model, optimizer, Progress(step=1), keep=5)

    def killed(*_: object) -> None:
        raise SystemExit("killed before the rename")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(SystemExit):
            save(tmp_path, model, optimizer, Progress(step=2), keep=5)
    assert newest(tmp_path) == older
    assert newest(save(tmp_path, model, optimizer, Progress(step=2), keep=5).parent) == tmp_path / "step-00000002"


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    model, optimizer = trained()
    for step in range(1, 7):
        save(tmp_path, model, optimizer, Progress(step=step, best_step=2 if step >= 2 else -1), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000005", "step-00000006"]


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None
