"""Job scripts: text of a user, a profile or a file name is data, never another line, option or command."""

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import polarcast
from polarcast.data.errors import BadInput
from polarcast.slurm.profile import Container, Profile, load_profile
from polarcast.slurm.render import Job, options, sbatch_text
from polarcast.slurm.submit import by_submitit

ANY = st.text(max_size=12) | st.text("\n\r\x0b\x85\u2028 #'\"\\$`;a0-=", max_size=12)
"""Any text, often with what means something to shells and sbatch."""
HOSTILE = "a\ntouch pwned #"
GOOD = Profile(
    partition="p", account="a", qos="q", constraint="c", memory="1G", modules=["m"], setup=["true"],
    environment={"A": "b"}, container=Container("apptainer", "i.sif", ["/m"]), scratch="/s", interface="ib0",
    options=["--exclusive"],
)  # fmt: skip
Run = Callable[..., tuple[int, str, str]]
TEXTS = [f.name for f in fields(Profile) if isinstance(getattr(GOOD, f.name), str)]


def rendered(profile: Profile, job: Job) -> str | None:
    """Return the script; None if the text was refused, in one line."""
    message = ""
    try:
        return sbatch_text(profile, job)
    except ValueError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


def check_script(script: str, profile: Profile, job: Job) -> None:
    """Check that a script has the expected comments and options, and runs exactly the words of the command."""
    assert not {*script} & set("\r\x0b\x0c\x85\u2028\u2029")
    head, body = script.split("\nset -euo pipefail\n")
    first, comment, *directives, empty = head.split("\n")
    assert (first, empty) == ("#!/bin/bash", "")
    assert comment.startswith(f"# polarcast {shlex.quote(job.command[0])}")
    expected = [
        *(f"--{k}" + ("" if v is None else f"={v}") for k, v in options(profile, job).items()),
        *profile.options,
    ]
    assert [shlex.split(line.removeprefix("#SBATCH "), comments=True) for line in directives] == [[o] for o in expected]
    *before, gap, work, end = body.split("\n")
    assert (gap, end) == ("", "")
    variables = {"WANDB_MODE": profile.wandb_mode, **profile.environment}
    if profile.interface:
        variables |= {"GLOO_SOCKET_IFNAME": profile.interface, "NCCL_SOCKET_IFNAME": profile.interface}
    modules = [["module", "load", name] for name in profile.modules]
    exports = [["export", f"{name}={value}"] for name, value in variables.items()]
    plain = before[: len(modules)] + before[len(modules) + len(profile.setup) :]
    assert before[len(modules) : len(modules) + len(profile.setup)] == profile.setup
    assert [shlex.split(line) for line in plain] == [*modules, *exports, ["trap", "", "USR2"]]
    words = [word.replace("${SLURM_ARRAY_TASK_ID}", "{task}") for word in shlex.split(work)]
    start = words.index("polarcast")
    if profile.container:
        image, mounts = profile.container.image, [f"--bind={mount}" for mount in profile.container.mounts]
        assert words[start - len(mounts) - 1 : start] == [*mounts, image]
    assert words[start + 1 :][: len(job.command)] == list(job.command)


def is_valid_shell(script: str) -> bool:
    return subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0


@given(st.lists(ANY, min_size=1, max_size=3), st.booleans())
def test_an_override_is_one_word_of_the_command_or_refused(words: list[str], together: bool) -> None:
    job = Job(("train" if together else "bench", *words), "any")
    if script := rendered(Profile(), job):
        check_script(script, Profile(), job)
        assert is_valid_shell(script)


@given(ANY, st.sampled_from(["name", "time", "array", "after"]))
def test_an_option_is_one_value_of_sbatch_or_refused(text: str, option: str) -> None:
    job = replace(Job(("train", "demo"), "any"), **{option: text})
    if script := rendered(Profile(), job):
        check_script(script, Profile(), job)


@given(ANY, st.sampled_from(TEXTS))
def test_a_field_of_a_profile_is_one_value_or_refused(text: str, field: str) -> None:
    profile, job = replace(GOOD, **{field: text}), Job(("train", "demo"), "any")
    if script := rendered(profile, job):
        check_script(script, profile, job)


@given(ANY, st.sampled_from(["modules", "options", "environment", "image", "mounts"]))
def test_an_entry_of_a_profile_is_one_value_or_refused(text: str, field: str) -> None:
    values: dict[str, Any] = {
        "modules": [text],
        "options": ["--comment=" + shlex.quote(text)],
        "environment": {"A": text},
    }
    containers = {"image": Container("apptainer", text), "mounts": Container("apptainer", "i.sif", [text])}
    profile = replace(GOOD, **({field: values[field]} if field in values else {"container": containers[field]}))
    job = Job(("train", "demo"), "any")
    if script := rendered(profile, job):
        quoted = replace(profile, options=[shlex.split(option)[0] for option in profile.options])
        check_script(script, quoted, job)


HOSTILE_WORDS = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "& touch pwned", "'; touch pwned '", "> pwned",
                 '"; touch pwned "', "\\", "#", "${HOME}", "{task}'; touch pwned"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_WORDS)
def test_no_text_of_a_command_runs(text: str, tmp_path: Path) -> None:
    profile = Profile(environment={"A": text}, container=Container("apptainer", f"x{text}", [text]))
    script = sbatch_text(profile, Job(("train", "demo", f"data.shards={text}"), "any"))
    assert is_valid_shell(script)
    fake = "srun() { printf '%s\\n' \"$@\"; }\nSLURM_ARRAY_TASK_ID='{task}'\n"
    done = subprocess.run(["bash", "-c", fake + script], capture_output=True, text=True, cwd=tmp_path)
    assert f"data.shards={text}" in done.stdout.splitlines()
    assert f"x{text}" in done.stdout.splitlines()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", [f.name for f in fields(Profile)])
def test_a_profile_with_a_line_break_reaches_no_script(field: str, tmp_path: Path) -> None:
    value = getattr(GOOD, field)
    hostile: Any = HOSTILE
    if isinstance(value, list):
        hostile = [HOSTILE]
    elif isinstance(value, dict):
        hostile = {HOSTILE: "1"}
    elif field == "container":
        hostile = {"image": HOSTILE}
    (tmp_path / "mine.yaml").write_text(polarcast_yaml({field: hostile}))
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as raised:
        load_profile(str(tmp_path / "mine.yaml"))
    assert len(str(raised.value).splitlines()) == 1
    if field != "container":
        with pytest.raises(ValueError, match="profile: "):
            sbatch_text(replace(GOOD, **{field: hostile}), Job(("train", "demo"), "any"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("modules: [1, 2]", "modules is [1, 2] — give a list of texts"),
        ("options: [true]", "options is [True]"),
        ("environment: {A: [1]}", "environment is {'A': [1]}"),
        ("environment: {A: true}", "environment is {'A': True}"),
        ("environment: {1: a}", "environment is {1: 'a'}"),
        ("environment: {A-B: a}", "the name of a variable is 'A-B'"),
        ("container: {image: x, mounts: /m}", "mounts is '/m'"),
        ("container: {image: --fakeroot}", "image is '--fakeroot'"),
        ("container: 3", "container is 3"),
        ("time: 12:00:00", "time is 43200 — give text, in quotes"),
        ("time: soon", "time is 'soon'"),
        ("memory: lots", "memory is 'lots'"),
        ("nodes: 0", "nodes is 0"),
        ("nodes: true", "nodes is True"),
        ("cpus_per_task: -1", "cpus_per_task is -1"),
        ("partition: gpu --wrap=id", "partition is 'gpu --wrap=id' — give one word"),
        ("options: [touch pwned]", "options is 'touch pwned'"),
        ("{1: 2}", "unknown key 1"),
    ],
)
def test_a_wrong_profile_is_no_traceback(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as raised:
        load_profile(str(tmp_path / "mine.yaml"))
    assert problem in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_profiles_that_are_no_text_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"partition: \xfc")
    (tmp_path / "folder.yaml").mkdir()
    for source in (
        tmp_path / "latin.yaml",
        tmp_path / "folder.yaml",
        tmp_path / ("x" * 300),
        "a\0b",
        tmp_path / "no.yaml",
    ):
        with pytest.raises(ValueError, match=" — ") as raised:
            load_profile(str(source))
        assert len(str(raised.value).splitlines()) == 1


def test_numbers_of_an_environment_are_texts(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("environment: {OMP_NUM_THREADS: 4, SHARE: 0.5}")
    assert load_profile(str(tmp_path / "mine.yaml")).environment == {"OMP_NUM_THREADS": "4", "SHARE": "0.5"}


@pytest.mark.parametrize("text", ["1", "90", "1:30", "01:30:00", "2-12", "2-12:30", "2-12:30:00", "unlimited"])
def test_times_of_slurm_are_accepted(text: str) -> None:
    assert f"#SBATCH --time={text}\n" in sbatch_text(Profile(), Job(("train", "demo"), "any", time=text))


@pytest.mark.parametrize("text", ["3", "0-9", "0-9%4", "1,3,5-7", "0-15:4%2"])
def test_arrays_of_slurm_are_accepted(text: str) -> None:
    assert f"#SBATCH --array={text}\n" in sbatch_text(Profile(), Job(("train", "demo"), "any", array=text))


def test_submitit_gets_no_hostile_text(tmp_path: Path) -> None:
    job = Job(("train", "demo"), "any")
    for profile, one, folder in (
        (GOOD, replace(job, name=HOSTILE), tmp_path),
        (GOOD, replace(job, command=("train", HOSTILE)), tmp_path),
        (replace(GOOD, setup=[HOSTILE]), job, tmp_path),
        (GOOD, job, tmp_path / HOSTILE),
    ):
        with pytest.raises(ValueError, match="holds a line break"):
            by_submitit(profile, one, folder)
    assert not list(tmp_path.iterdir())


def polarcast_yaml(content: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--name", HOSTILE], "name holds a line break"),
        (["--name", "two words"], "name is 'two words' — use at most 100 letters"),
        (["--name", "../x"], "name is '../x'"),
        (["--name", ""], "--name: is empty"),
        (["--nodes", "0"], "nodes is 0 — give a whole number, at least 1"),
        (["--time", "soon"], "time is 'soon' — give minutes"),
        (["--array", "junk"], "array is 'junk'"),
        (["--array", "4-0"], "array is '4-0' — give the smaller index first"),
        (["--array", "1,4-3%2"], "give the smaller index first"),
        (["--array", "0-99999999999"], "array is '0-99999999999'"),
        (["--array", "0-4000001"], "give indices of at most 4000000"),
        (["--array", "0-4:0"], "array is '0-4:0'"),
        (["--after", "junk"], "after is 'junk'"),
        (["--by", "pigeon"], "--by 'pigeon': unknown — choose from: sbatch, submitit"),
        (["--cluster", "nowhere"], "nowhere: no such cluster profile"),
    ],
)
def test_a_wrong_option_asks_no_slurm(polarcast_here: Run, flags: list[str], problem: str) -> None:
    code, out, err = polarcast_here("submit", *flags, "--", "train", "demo")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert problem in err


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["frobnicate"], "'frobnicate': unknown verb — choose from: train, "),
        (["data", "frobnicate"], "'data frobnicate': unknown verb — choose from: "),
        (["perf"], "'perf': unknown verb — choose from: "),
        ([""], "--: is empty"),
        (["train"], "train: Missing argument"),
        (["train", "demo", "--frobnicate"], "train: No such option"),
        (["train", "demo", "--processes", "x"], "train: Invalid value for '--processes'"),
        (["train", "demo", f"data.shards={HOSTILE}"], "command: a word holds a line break"),
        (["train", "nonsense"], "nonsense: no such preset — choose from: "),
        (["bench", "nonsense"], "nonsense: no such suite — choose from: "),
        (["sweep", "nonsense"], "nonsense: no such space — choose from: "),
        (["estimate", "nonsense"], "nonsense: no such preset — choose from: "),
        (["train", "demo", "foo"], "override: 'foo' is not key=value"),
        (["train", "demo", "foo=1"], "override: unknown key 'foo' — choose from: "),
        (["submit", "--", "train", "demo"], "submit: a job can't submit jobs"),
    ],
)
def test_a_verb_that_can_not_run_asks_no_slurm(polarcast_here: Run, command: list[str], problem: str) -> None:
    for flags in ([], ["--dry-run"]):
        code, out, err = polarcast_here("submit", *flags, "--", *command)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert problem in err


def test_a_file_of_the_cluster_need_not_be_here(polarcast_here: Run) -> None:
    for command in (["train", "/scratch/cluster-only.yaml", "arm=radar"], ["bench", "cells-{task}.yaml"]):
        code, out, _ = polarcast_here("submit", "--dry-run", "--cluster", "cpu", "--array", "0-1", "--", *command)
        assert (code, command[1].split("{")[0] in out) == (0, True)


def test_a_folder_with_a_space_gives_no_wrong_name(polarcast_here: Run) -> None:
    code, out, _ = polarcast_here("submit", "--dry-run", "--cluster", "cpu", "--", "evaluate", "runs/my run #1")
    assert code == 0
    assert "#SBATCH --job-name=evaluate-my-run-1\n" in out
    code, out, _ = polarcast_here(
        "submit", "--dry-run", "--array", "0-1", "--", "perf", "inference", "demo", "--rounds", "{task}"
    )
    assert code == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": HOSTILE}, "name holds a line break"),
        ({"name": 3}, "name is 3 — give text"),
        ({"nodes": 0}, "nodes is 0"),
        ({"nodes": "x"}, "nodes is 'x'"),
        ({"time": "soon"}, "time is 'soon'"),
        ({"after": "junk"}, "after is 'junk'"),
        ({"out": HOSTILE}, "command: a word holds a line break"),
        ({"cluster": "nowhere"}, "no such cluster profile"),
    ],
)
def test_wrong_values_from_python_are_no_traceback(options: dict[str, Any], problem: str) -> None:
    config = polarcast.load_config("demo", ["data.shards=shards"])
    with pytest.raises(BadInput) as raised:
        polarcast.submit(config, **{"dry_run": True, **options})
    assert problem in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
