"""The configuration of a run made by others is data: it runs nothing, and sends and writes nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import polarcast as pc
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.perf.sampler import measure_sampler
from polarcast.hpc.runs.build import stored_shards
from polarcast.hpc.runs.folder import RunFolder
from tests.support.finished_run import BASELINE, DIFFUSION, finished

Polarcast = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(shards: Manifest, tmp_path: Path) -> RunFolder:
    return finished(shards, tmp_path / "theirs", *BASELINE)


@pytest.fixture
def pipe(shards: Manifest, tmp_path: Path) -> str:
    """Location that runs a command of its maker for each file."""
    return f"pipe:touch {tmp_path}/pwned; cat {shards.folder}/{{name}}"


def rewrite(run: RunFolder, **data: object) -> None:
    content = yaml.safe_load(run.config_file.read_text())
    content["data"] |= data
    run.config_file.write_text(yaml.safe_dump(content))


def test_evaluate_runs_no_command_of_a_run(
    run: RunFolder, pipe: str, polarcast_here: Polarcast, tmp_path: Path
) -> None:
    rewrite(run, shards=pipe, reader="stream")
    code, _, error = polarcast_here("evaluate", run.path)
    assert code == 2
    assert len(error.splitlines()) == 1
    assert "pipe:touch" in error
    assert "--trust" in error
    assert "--archive" in error
    assert not (tmp_path / "pwned").exists()


def test_trust_lets_evaluate_read_through_a_command(
    run: RunFolder, pipe: str, polarcast_here: Polarcast, tmp_path: Path
) -> None:
    rewrite(run, shards=pipe, reader="stream")
    code, _, error = polarcast_here("evaluate", run.path, "--trust")
    assert code == 0, error
    assert (tmp_path / "pwned").exists()


def test_an_archive_of_the_user_needs_no_trust(
    run: RunFolder, pipe: str, shards: Manifest, polarcast_here: Polarcast, tmp_path: Path
) -> None:
    rewrite(run, shards=pipe)
    code, _, error = polarcast_here("evaluate", run.path, "--archive", shards.folder)
    assert code == 0, error
    assert not (tmp_path / "pwned").exists()


def test_python_runs_no_command_of_a_run_that_is_not_trusted(run: RunFolder, pipe: str, tmp_path: Path) -> None:
    rewrite(run, shards=pipe, reader="stream")
    with pytest.raises(BadInput, match="trust"):
        pc.open_run(run.path).evaluate()
    assert not (tmp_path / "pwned").exists()
    pc.open_run(run.path, trust=True).evaluate()
    assert (tmp_path / "pwned").exists()


def test_measuring_samplers_runs_no_command_of_a_run(shards: Manifest, pipe: str, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "theirs", *DIFFUSION)
    rewrite(run, shards=pipe)
    with pytest.raises(BadInput, match="trust"):
        measure_sampler(run, members=2, windows=1)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("location", ["https://server/x", "PIPE:touch pwned", " pipe:touch pwned", "s3://bucket/x"])
def test_no_stored_location_but_a_folder_is_opened(run: RunFolder, location: str) -> None:
    rewrite(run, shards=location)
    with pytest.raises(BadInput, match="reads shards through"):
        stored_shards(RunFolder(run.path))


def test_the_refusal_shows_no_secret(run: RunFolder) -> None:
    rewrite(run, shards="https://me:hunter22@server/x?token=abcdef")
    with pytest.raises(BadInput) as caught:
        stored_shards(RunFolder(run.path))
    assert "hunter22" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_a_run_does_not_choose_where_to_stage(run: RunFolder, tmp_path: Path) -> None:
    rewrite(run, stage_to=str(tmp_path / "victim"))
    stored_shards(RunFolder(run.path))
    assert not (tmp_path / "victim").exists()
    stored_shards(RunFolder(run.path, trust=True))
    assert (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    "read",
    [
        lambda run: RunFolder(run.path).config(),
        lambda run: load_config(run.config_file, ["data.shards=here"]),
        lambda run: load_config("demo", ["model.name=member_mean", f"base={run.path}"]),
    ],
    ids=["run", "source", "base"],
)
@pytest.mark.parametrize("key", ["shards", "stage_to"])
def test_the_environment_is_not_interpolated(
    run: RunFolder, key: str, read: Callable[[RunFolder], RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_MINE", "hunter22")
    rewrite(run, **{key: "http://server/${oc.env:KEY_OF_MINE}/x"})
    with pytest.raises(BadInput, match="not interpolated") as caught:
        read(run)
    assert "hunter22" not in str(caught.value)
    assert f"data.{key}" in str(caught.value)


def test_the_environment_is_not_interpolated_in_the_configuration_of_a_base(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_MINE", "hunter22")
    base = finished(shards, tmp_path / "base", *DIFFUSION)
    run = finished(shards, tmp_path / "run", "model.name=member_mean", f"base={base.path}", "train.threads=1")
    content = yaml.safe_load(run.config_file.read_text())
    content["base"]["config"]["data"]["shards"] = "http://server/${oc.env:KEY_OF_MINE}"
    run.config_file.write_text(yaml.safe_dump(content))
    with pytest.raises(BadInput, match="not interpolated"):
        run.config()
    trusted = RunFolder(run.path, trust=True).config().base
    assert trusted
    assert trusted.config.data.shards == "http://server/${oc.env:KEY_OF_MINE}"


@pytest.mark.parametrize("text", ["${HOME}", "\\${HOME}", "\\\\${HOME}", "a${", "x$${y}"])
def test_trust_keeps_dollar_signs_as_text(run: RunFolder, text: str) -> None:
    rewrite(run, shards=text)
    assert RunFolder(run.path, trust=True).config().data.shards == text


BOMB = "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "aliases"),
        ("a: " + "[" * 1000 + "]" * 1000, "levels deep"),
        ("a:\n" + "".join(f"{' ' * n}b{n}:\n" for n in range(1, 100)), "levels deep"),
        (f"a: {'x' * 200_000}", "larger than"),
        ("a: !!python/object/apply:os.system ['touch pwned']", "damaged"),
        ("a: [1", "damaged"),
        ("- 1", "expected keys and values"),
        ("", "expected keys and values"),
        ("\xff\xfe", "damaged"),
        ("base: /etc", "contain their base"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(run: RunFolder, content: str, words: str) -> None:
    run.config_file.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match=words) as caught:
        run.config()
    assert "config.yaml" in str(caught.value)
    assert str(caught.value).isprintable()


def test_training_from_the_configuration_of_a_run_runs_no_command_of_it(run: RunFolder, pipe: str) -> None:
    rewrite(run, shards=pipe, stage_to="/victim")
    with pytest.raises(BadInput, match=r"give data\.shards=… yourself"):
        load_config(str(run.config_file))
    config = load_config(str(run.config_file), ["data.shards=mine"])
    assert (config.data.shards, config.data.stage_to) == ("mine", None)


def test_a_file_of_the_user_is_interpolated_and_may_name_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET", "mine")
    (tmp_path / "config.yaml").write_text("data: {shards: 'pipe:cat ${oc.env:BUCKET}/{name}', stage_to: /tmp/x}\n")
    config = load_config(tmp_path / "config.yaml")
    assert (config.data.shards, config.data.stage_to) == ("pipe:cat mine/{name}", "/tmp/x")


def test_a_plain_configuration_keeps_its_digest(run: RunFolder, shards: Manifest, tmp_path: Path) -> None:
    expected = digest(load_config("demo", [f"data.shards={shards.folder}", *BASELINE]))
    shutil.copytree(run.path, tmp_path / "copy")
    assert digest(RunFolder(tmp_path / "copy").config()) == expected


def test_a_new_run_is_trusted_by_the_process_that_trained_it(pipe: str, tmp_path: Path) -> None:
    config = load_config("demo", {"data": {"shards": pipe, "reader": "stream"}, "model": {"name": "power_law"}})
    made = pc.train(config, tmp_path / "mine")
    made.evaluate()
