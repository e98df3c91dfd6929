"""A manifest from a stranger runs nothing, reaches no path outside of its folder, and ends in one line."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import only_test, open_reader
from polarcast.data.origins import Area, Origin
from polarcast.data.shards.adopt import ShardLayout, adopt
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, Shard, read_manifest
from polarcast.data.shards.source import ShardSource
from polarcast.data.shards.staging import stage
from tests.support.marked_shards import marked_shards, samples_of

ONCE = Patience(retries=0)
PATHS = (
    "../../victim/keys",
    "/abs/keys",
    "..",
    ".hidden",
    "a/b.tar",
    "a\\b.tar",
    "",
    "-rf",
    "a\nb.tar",
    "manifest.json",
)
COMMANDS = ("x; touch pwned;", "$(touch pwned)", "`touch pwned`", "a|touch pwned", "a&touch pwned&", "'; touch pwned '",
            '"; touch pwned "', "a -o pwned", "~", "*")  # fmt: skip
TEMPLATES = (
    "cat mirror/{name}",
    "cat 'mirror/{name}'",
    'cat "mirror/{name}"',
    "cd mirror; cat",
    "sh -c 'cat mirror/{name}'",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_shards(tmp_path_factory.mktemp("made"), (3, 4)).folder


@pytest.fixture
def mirror(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of two shards below the working folder."""
    shutil.copytree(made, tmp_path / "mirror")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mirror"


def alter(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rename(folder: Path, name: str) -> None:
    """Give the first shard another name, in the manifest and, where a file can have it, on disk."""
    alter(folder, lambda content: content["shards"][0].update(name=name))
    if name and "/" not in name and name not in (".", ".."):
        (folder / "shard-000000.tar").rename(folder / name)


@pytest.mark.parametrize("name", PATHS)
def test_a_shard_name_that_is_a_path_is_not_read(mirror: Path, name: str) -> None:
    alter(mirror, lambda content: content["shards"][0].update(name=name))
    with pytest.raises(BadInput, match="damaged manifest") as error:
        read_manifest(mirror)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_shard_name_runs_nothing_in_a_pipe(mirror: Path, name: str, template: str) -> None:
    rename(mirror, name)
    with pytest.raises(BadInput):
        open_test(read_manifest(f"pipe:{template}")).read([0])
    assert not Path("pwned").exists()
    assert not (mirror / "pwned").exists()


def open_test(manifest: Manifest, observed: bool = False) -> Any:
    return open_reader(
        only_test(manifest), "test", variables=("zh",), heights_km=(3.0,), observed=observed, patience=ONCE
    )  # fmt: skip


@pytest.mark.parametrize("template", ["cat mirror/{name}", "cat 'mirror/{name}'", 'cat "mirror/{name}"'])
@pytest.mark.parametrize("name", ["one shard.tar", "Köln+1=a,b@c:d%e.tar"])
def test_a_harmless_name_is_one_argument_in_a_pipe(mirror: Path, name: str, template: str) -> None:
    rename(mirror, name)
    assert len(samples_of(open_test(read_manifest(f"pipe:{template}")).read(range(7)))) == 7


@pytest.fixture
def server(mirror: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("name", ["a b#c?d=%20[1-3]{x}.tar", "$(touch pwned)"])
def test_a_shard_name_is_only_a_name_in_a_url(mirror: Path, server: str, name: str) -> None:
    rename(mirror, name)
    assert len(samples_of(open_test(read_manifest(server)).read(range(7)))) == 7
    assert not Path("pwned").exists()


def test_a_shard_name_writes_and_deletes_nothing_outside_of_the_stage_folder(mirror: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim" / "keys"
    victim.parent.mkdir()
    victim.write_text("kept")
    manifest = read_manifest(mirror)
    for name in (f"../../{victim.parent.name}/keys", str(victim)):
        first = Shard(name, manifest.shards[0].bytes, manifest.shards[0].sha256)
        hostile = Manifest(**{**manifest.__dict__, "shards": (first, *manifest.shards[1:])})
        with pytest.raises(BadInput):
            stage(hostile, tmp_path / "nvme" / "node", ONCE)
        assert victim.read_text() == "kept"


def test_a_tar_with_an_unsafe_name_is_not_indexed(tmp_path: Path) -> None:
    made = marked_shards(tmp_path, (3,))
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(made.folder / made.shards[0].name, folder / "a\nb.tar")
    with pytest.raises(BadInput, match="not printed"):
        adopt(folder, ShardLayout(("zh",), (3.0,)))
    assert [path.name for path in folder.iterdir()] == ["a\nb.tar"]


def set_run(column: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["shards"][0]["runs"][0][column] = value

    return change


def set_origins(**changes: Any) -> Callable[[dict[str, Any]], None]:
    origins = {"places": [["radar", [30, 118, 32, 120]]], "events": [[0, 0, 0, 60]]}
    return lambda content: content.update(origins={**origins, **changes})


def set_entry(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["shards"][0].update({key: value})


HOSTILE = {
    "a run of 10^12 frames": set_run(2, 10**12),
    "an offset beyond the shard": set_run(3, 10**9),
    "an odd offset": set_run(3, 641),
    "a negative offset": set_run(3, -2),
    "no rain rate": set_run(4, -1),
    "a stride that overflows": set_run(5, 2**62),
    "the least stride": set_run(5, -(2**63)),
    "frames on top of each other": set_run(5, 0),
    "a number beyond 64 bits": set_run(3, 10**30),
    "text for a number": set_run(0, "0"),
    "a fraction": set_run(1, 0.5),
    "a run of five": lambda content: content["shards"][0]["runs"][0].pop(),
    "fewer counts than frames": lambda content: content["shards"][0]["strong_pixels"].pop(),
    "more intensities than frames": lambda content: content["shards"][0]["intensity_ppm"].append(1),
    "a negative size": set_entry("bytes", -1),
    "a size of text": set_entry("bytes", "10240"),
    "a size of true": set_entry("bytes", True),
    "a short checksum": set_entry("sha256", "00"),
    "runs that are text": set_entry("runs", "abc"),
    "no name": lambda content: content["shards"][0].pop("name"),
    "the same name twice": set_entry("name", "shard-000001.tar"),
    "no shards": lambda content: content.update(shards=[]),
    "shards by name": lambda content: content.update(shards={"a": 1}),
    "a huge grid": lambda content: content.update(shape=[10**6, 10**6]),
    "a grid of three": lambda content: content.update(shape=[8, 8, 8]),
    "an empty grid": lambda content: content.update(shape=[0, 8]),
    "variables as text": lambda content: content.update(variables="zh"),
    "a list as variable": lambda content: content.update(variables=[["zh"]]),
    "no unit": lambda content: content.update(units={}),
    "a height of NaN": lambda content: content.update(heights_km=[float("nan")]),
    "an infinite step": lambda content: content.update(time_step_minutes=float("inf")),
    "no spacing": lambda content: content.update(spacing_km=0),
    "events as text": lambda content: content["splits"].update(test="01"),
    "no test split": lambda content: content["splits"].pop("test"),
    "statistics of text": lambda content: content.update(statistics={"zh_3.0km": {"mean": "0"}}),
    "no window filter": lambda content: content.update(selection={}),
    "a note of text": lambda content: content.update(provenance={"derived": "zh"}),
    "other columns": lambda content: content.update(run_columns=["event"]),
    "an unknown field": lambda content: content.update({"x\ny": 1}),
    "groups as a list": lambda content: content.update(groups=["a"]),
    "a group of an event that is no number": lambda content: content.update(groups={"x": "a"}),
    "a group of an event of two names": lambda content: content.update(groups={"00": "a"}),
    "a group that is a number": lambda content: content.update(groups={"0": 1}),
    "a group of two lines": lambda content: content.update(groups={"0": "a\nb"}),
    "origins without places": lambda content: content.update(origins={"events": []}),
    "a place that is not listed": lambda content: content.update(origins={"places": [], "events": [[0, 0, 0, 0]]}),
    "an event with two origins": set_origins(events=[[0, 0, 0, 0], [0, 0, 0, 0]]),
    "an event that ends before it starts": set_origins(events=[[0, 0, 1, 0]]),
    "a time that no calendar has": set_origins(events=[[0, 0, 0, 10**15]]),
    "a time that is text": set_origins(events=[[0, 0, "0", "0"]]),
    "a source of two lines": set_origins(places=[["a\nb", None]]),
    "an extent upside down": set_origins(places=[["a", [50, 0, 40, 10]]]),
    "another format": lambda content: content.update(format=["x"] * 1000),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_manifest_that_claims_what_is_not_true_is_not_read(
    mirror: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    alter(mirror, change)
    with pytest.raises(BadInput, match=r"damaged manifest|this version reads") as error:
        read_manifest(mirror)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_groups_and_origins_survive_a_round_trip(mirror: Path) -> None:
    alter(mirror, set_origins())
    alter(mirror, lambda content: content.update(groups={"0": "2021-07-04 radar", "1": "2021-07-04 radar"}))
    manifest = read_manifest(mirror)
    assert manifest.groups == dict.fromkeys((0, 1), "2021-07-04 radar")
    assert manifest.origins == {0: Origin(Area("radar", (30, 118, 32, 120)), 0, 60)}
    (mirror / "manifest.json").write_text(manifest.to_json())
    again = read_manifest(mirror)
    assert (again.groups, again.origins, again.digest()) == (manifest.groups, manifest.origins, manifest.digest())


def masks_on_top_of_each_other(content: dict[str, Any]) -> None:
    event, frame, frames, radar, rain, stride, masks = content["shards"][0]["runs"][0]
    single = [[event, frame + i, 1, radar + i * stride, rain + i * stride, 0, masks] for i in range(frames)]
    content["shards"][0]["runs"] = single


HOSTILE_MASKS = {
    "masks beyond the shard": set_run(6, 10**9),
    "masks at an odd offset": set_run(6, 641),
    "masks before the shard": set_run(6, -2),
    "masks that end beyond the shard": lambda content: set_run(6, content["shards"][0]["bytes"] - 2)(content),
    "masks on top of each other": masks_on_top_of_each_other,
    "a run without masks": lambda content: content["shards"][0]["runs"][0].pop(),
    "the columns of shards without masks": lambda content: content["run_columns"].pop(),
    "the format of shards without masks": lambda content: content.update(format="polarcast-shards/3"),
}


@pytest.mark.parametrize("change", HOSTILE_MASKS.values(), ids=HOSTILE_MASKS.keys())
def test_masks_that_are_not_where_a_manifest_says_are_not_read(
    masked: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    shutil.copytree(masked, tmp_path / "masked")
    assert not open_test(read_manifest(tmp_path / "masked"), observed=True).read([0]).observed[..., 0, :].any()
    alter(tmp_path / "masked", change)
    with pytest.raises(BadInput, match="damaged manifest") as error:
        read_manifest(tmp_path / "masked")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '"\\ud800"', "\xff", "null", "{}"])
def test_text_that_is_no_manifest_ends_in_one_line(mirror: Path, text: str) -> None:
    (mirror / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"damaged manifest|can't be read"):
        read_manifest(mirror)


def test_an_endless_manifest_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.data.shards.source._MAX_TEXT_BYTES", 2**20)
    with pytest.raises(BadInput, match="longer than"):
        read_manifest("pipe:yes {name}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two shards with masks of observed pixels."""
    return marked_shards(tmp_path_factory.mktemp("masked"), (3, 4), masked=True).folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_no_value_anywhere_in_a_manifest_gives_a_traceback(mirror: Path, masked: Path, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        mirror = masked
    original = (mirror / "manifest.json").read_text()
    content = json.loads(original)
    content["groups"] = {"0": "storm"}
    set_origins()(content)
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(JSON)
    (mirror / "manifest.json").write_text(json.dumps(content))
    message = ""
    try:
        manifest = read_manifest(mirror)
        open_test(manifest, observed=True).read([0])
        manifest.digest(), manifest.to_json()
    except BadInput as error:
        message = str(error)
    finally:
        (mirror / "manifest.json").write_text(original)
    assert "\n" not in message


def test_secrets_of_a_location_reach_no_message(mirror: Path, caplog: pytest.LogCaptureFixture) -> None:
    locations = (
        "pipe:cat mirror/{name} --password hunter2; false",
        "https://me:hunter2@localhost:1/{name}?sig=hunter2",
    )
    for location in locations:
        with pytest.raises(BadInput) as error:
            read_manifest(location)
        assert "hunter2" not in f"{error.value} {error.value.what} {error.value.where}"
    manifest = read_manifest(mirror)
    for location in locations:
        remote = Manifest(**{**manifest.__dict__, "source": ShardSource(location)})
        with pytest.raises(BadInput) as error:
            open_test(remote).read([0])
        assert "hunter2" not in f"{error.value} {error.value.what} {error.value.where}"
    assert "hunter2" not in caplog.text
