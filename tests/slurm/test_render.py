"""Job scripts: golden files and general properties."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.slurm.profile import PROFILES, Container, Profile, load_profile
from polarcast.slurm.render import Job, sbatch_text

GOLDEN = Path(__file__).with_name("golden")
FULL = Profile(
    partition="gpu", account="radar", qos="long", constraint="a100&nvlink", time="2-00:00:00", nodes=16,
    gpus_per_node=4, cpus_per_task=8, memory="240G", modules=["cuda/12.8"], setup=["source /sw/polarcast/bin/activate"],
    environment={"NCCL_DEBUG": "WARN", "TITLE": "two words"}, scratch="/local/nvme", interface="ib0",
    signal_seconds=300, options=["--exclusive"],
)  # fmt: skip
TRAIN = ("train", "paper", "data.shards=/scratch/shards", "arm=dualpol")
CASES = {
    "train_gpu": (load_profile("gpu"), Job(TRAIN, "train-paper")),
    "train_cpu": (load_profile("cpu"), Job(TRAIN, "train-paper", nodes=3, time="01:00:00")),
    "train_everything": (FULL, Job((*TRAIN, "--out", "/work/run 1"), "everything", after="12:13")),
    "train_apptainer": (
        Profile(gpus_per_node=2, container=Container(image="/images/p.sif", mounts=["/scratch", "/data:/data:ro"])),
        Job(TRAIN, "in-a-container"),
    ),
    "train_pyxis": (
        Profile(gpus_per_node=2, container=Container("pyxis", "nvcr.io#polarcast", ["/scratch:/scratch"])),
        Job(TRAIN, "in-a-container"),
    ),
    "seeds": (load_profile("cpu"), Job(("train", "standard", "seed={task}", "data.shards=/s"), "seeds", array="0-4%2")),
    "sweep": (load_profile("gpu"), Job(("sweep", "furenet", "data.shards=/my shards"), "sweep-furenet", nodes=4)),
    "sweep_workers": (load_profile("gpu"), Job(("sweep", "furenet", "--worker"), "sweep-furenet", array="0-7")),
    "bench": (load_profile("cpu"), Job(("bench", "demo", "--archive", "/data/my archive"), "bench-demo")),
}


@pytest.mark.parametrize("name", CASES)
def test_script_equals_golden_file(name: str) -> None:
    assert sbatch_text(*CASES[name]) == (GOLDEN / f"{name}.sbatch").read_text()


@pytest.mark.parametrize("name", CASES)
def test_script_is_valid_bash(name: str) -> None:
    subprocess.run(["bash", "-n"], input=sbatch_text(*CASES[name]), text=True, check=True)


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(st.lists(words, min_size=1, max_size=5))
def test_arguments_are_quoted_unchanged(arguments: list[str]) -> None:
    job = Job(("bench", *arguments), "any")
    last = sbatch_text(Profile(), job).splitlines()[-1] if all("\n" not in a for a in arguments) else ""
    expected = [word.replace("{task}", "7") for word in ("polarcast", "bench", *arguments)]
    assert [w.replace("${SLURM_ARRAY_TASK_ID}", "7") for w in shlex.split(last)[1:]] == expected


@pytest.mark.parametrize("profile", sorted(p.stem for p in PROFILES.glob("*.yaml")))
def test_bundled_profiles_render(profile: str) -> None:
    assert "srun" in sbatch_text(load_profile(profile), Job(TRAIN, "t"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("partitoin: gpu", "did you mean partition"),
        ("nodes: many", "nodes is 'many'"),
        ("modules: cuda", "modules is 'cuda'"),
        ("container: {kind: docker, image: x}", "apptainer, pyxis"),
        ("container: {image: 3}", "image is 3"),
        ("- a list", "expected keys and values"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_invalid_profile_error_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem) as raised:
        load_profile(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(raised.value)
    assert "mine.yaml" in str(raised.value)


def test_processes_must_equal_gpus() -> None:
    with pytest.raises(ValueError, match="4 GPUs per node, but 2 processes"):
        sbatch_text(Profile(gpus_per_node=4, tasks_per_node=2), Job(TRAIN, "t"))


def test_dry_run_prints_the_script_without_importing_torch(tmp_path: Path) -> None:
    probe = (
        "import sys; sys.argv = ['polarcast', 'submit', '--dry-run', '--cluster', 'cpu', '--', 'train', 'demo']\n"
        "from polarcast.hpc.cli.app import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == sbatch_text(load_profile("cpu"), Job(("train", "demo"), "train-demo"))
    assert not list(tmp_path.iterdir())
