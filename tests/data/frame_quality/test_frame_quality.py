"""Quality of training frames: features, rule, classifier, and the windows that are dropped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.frame_quality.classifier import assess, reliability
from polarcast.data.frame_quality.drop import keep_at_random, keep_by_quality
from polarcast.data.frame_quality.features import OF_FIELD, PERCENTILES, RAINY_DBZ, features_of, names_of, summary_of
from polarcast.data.frame_quality.judge import LABELLED, FrameQuality, draw_labelled, judge_frames
from polarcast.data.frame_quality.rule import RAINY_QUANTILE, SPREAD_QUANTILE, ZEROS_QUANTILE, Rule
from polarcast.data.loading.reader import open_reader
from polarcast.data.loading.windows import windows_of
from polarcast.data.scaling import RANGES
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.runs.build import build_reader

NAMES = names_of(("zh", "zdr"), (1.0, 3.0))


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """24 training events of four frames."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 32, size=32, seed=3, preset="tiny", frames=4)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.75/0.125/0.125")
    return read_manifest(root / "shards")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "polarcast" / "frame-quality"


@pytest.fixture(scope="module")
def quality(storms: Manifest, tmp_path_factory: pytest.TempPathFactory) -> FrameQuality:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own")))
        return judge_frames(storms)


def test_features_equal_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    radar = (rng.random((2, 2, 9, 11)) * np.array([50, 3])[:, None, None, None]).astype(np.float16)
    radar[rng.random(radar.shape) < 0.4] = 0
    found = dict(zip(NAMES, features_of(radar, ("zh", "zdr")), strict=True))
    for v, name in enumerate(("zh", "zdr")):
        low, high = RANGES[name]
        for z, height in enumerate((1, 3)):
            field = radar[v, z].astype(np.float64)
            expected = {"zeros": (field == 0).mean(), "mean": (field.mean() - low) / (high - low)}
            expected["std"] = field.std() / (high - low)
            percentiles = np.percentile(field, PERCENTILES, method="nearest")
            expected |= {f"p{p}": (x - low) / (high - low) for p, x in zip(PERCENTILES, percentiles, strict=True)}
            assert set(expected) == set(OF_FIELD)
            for feature, value in expected.items():
                assert found[f"{name} {height} km {feature}"] == pytest.approx(value, abs=2e-3), (name, height, feature)
    assert found["rainy 3 km"] == (radar[0, 1] >= RAINY_DBZ).mean()


def test_rule_follows_the_quantiles_of_the_training_frames() -> None:
    features = np.random.default_rng(1).random((400, len(NAMES)))
    summary = summary_of(features, NAMES)
    zeros = [i for i, name in enumerate(NAMES) if name.endswith("zeros")]
    np.testing.assert_allclose(summary[:, 1], features[:, zeros].mean(1))
    rule = Rule.of(summary)
    assert (summary[:, 0] < rule.rainy).mean() == pytest.approx(RAINY_QUANTILE, abs=0.01)
    assert (summary[:, 1] > rule.zeros).mean() == pytest.approx(1 - ZEROS_QUANTILE, abs=0.01)
    assert (summary[:, 2] < rule.spread).mean() == pytest.approx(SPREAD_QUANTILE, abs=0.01)
    good = np.array([[rule.rainy, rule.zeros, rule.spread]])
    assert rule.is_good(good).all()
    for place, change in enumerate((-1e-6, 1e-6, -1e-6)):
        worse = good.copy()
        worse[0, place] += change
        assert not rule.is_good(worse).any()


def test_classifier_finds_the_labels_of_groups_it_was_not_fitted_to() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 6))
    label = features[:, 0] + features[:, 1] > 0
    groups = [str(i // 5) for i in range(200)]
    found = assess(features, label, groups)
    assert (found.frames, found.groups, found.folds) == (200, 40, 5)
    assert found.accuracy > 0.85 > found.majority
    assert found.brier < 0.6 * found.brier_of_share
    # Labels that follow from the group alone can't be known for new groups.
    by_group = np.array([hash_of(int(group)) for group in groups])
    marked = np.stack([np.array(groups, float), rng.normal(size=200)], 1)
    assert assess(marked, by_group, groups).accuracy < 0.7


def hash_of(number: int) -> bool:
    return bool((number * 2654435761 >> 7) & 1)


def test_calibration_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    chance = rng.random(500)
    label = rng.random(500) < chance
    bins = reliability(chance, label)
    observed, mean = calibration_curve(label, chance, n_bins=10)
    np.testing.assert_allclose([b[0] for b in bins], mean)
    np.testing.assert_allclose([b[1] for b in bins], observed)
    assert sum(b[2] for b in bins) == 500
    assert brier_score_loss(label, chance) == pytest.approx(np.mean((chance - label) ** 2))


def test_a_single_label_or_group_is_one_line() -> None:
    features = np.random.default_rng(4).random((20, 3))
    mixed = np.arange(20) % 2 == 0
    for label, groups in ((np.ones(20, bool), [str(i) for i in range(20)]), (mixed, ["one"] * 20)):
        with pytest.raises(BadInput, match="too few training frames") as caught:
            assess(features, label, groups)
        assert "\n" not in str(caught.value)


def test_only_training_frames_are_judged(storms: Manifest, quality: FrameQuality) -> None:
    assert set(quality.event.tolist()) == set(storms.splits["train"])
    assert len(quality.score) == 4 * len(storms.splits["train"]) == quality.report["training_frames"]
    assert ((quality.score >= 0) & (quality.score <= 1)).all()
    assessed = quality.report["assessment"]
    assert assessed["groups"] <= len(storms.splits["train"])
    assert assessed["accuracy"] > assessed["majority"]
    assert assessed["brier"] < assessed["brier_of_share"]


def test_frames_to_label_are_drawn_at_random_but_always_the_same() -> None:
    event, frame = np.divmod(np.arange(1000), 10)
    chosen = draw_labelled(event, frame)
    assert len(set(chosen.tolist())) == LABELLED
    np.testing.assert_array_equal(chosen, draw_labelled(event, frame))
    assert 400 < chosen.mean() < 600
    # The draw of a frame does not depend on the place of its row.
    order = np.random.default_rng(0).permutation(1000)
    assert set(order[draw_labelled(event[order], frame[order])].tolist()) == set(chosen.tolist())


def test_result_is_kept_and_a_damaged_file_is_replaced(storms: Manifest, cache: Path) -> None:
    calls: list[int] = []
    first = judge_frames(storms, calls.append)
    assert calls == list(range(1, len(first.score) + 1))
    [file] = cache.iterdir()
    again = judge_frames(storms, calls.append)
    assert len(calls) == len(first.score)
    np.testing.assert_array_equal(again.score, first.score)
    assert again.report == first.report
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(judge_frames(storms).score, first.score)
    assert [path.name for path in cache.iterdir()] == [file.name]
    other = replace(storms, splits={**storms.splits, "train": storms.splits["train"][1:]})
    assert len(judge_frames(other).score) == len(first.score) - 4


def test_the_poorest_windows_are_dropped(storms: Manifest, quality: FrameQuality) -> None:
    keep = keep_by_quality(storms, 0.25)(windows_of(storms, "train"))
    windows = windows_of(storms, "train")
    assert (~keep).sum() == round(0.25 * len(windows))
    score = quality.of(*windows.begins(np.arange(len(windows))).T)
    assert score[~keep].max() <= score[keep].min()


def test_a_window_is_as_poor_as_its_poorest_input_frame(storms: Manifest, quality: FrameQuality) -> None:
    """Two input frames and one to forecast, which does not count; and an estimate with one frame of context."""
    nowcast = windows_of(storms, "train", frames=3, targets=1)
    estimate = windows_of(storms, "train", context=1)
    for windows, before, after in ((nowcast, 0, 1), (estimate, 1, 0)):
        lowest = windows.lowest_input(quality.of)
        for number, (event, frame) in enumerate(windows.begins(np.arange(len(windows))).tolist()):
            frames = [f for f in range(frame - before, frame + after + 1) if f >= 0]
            score = quality.of(np.full(len(frames), event), np.array(frames))
            assert lowest[number] == score.min()


def test_the_control_drops_as_many_at_random_by_seed(storms: Manifest) -> None:
    windows = windows_of(storms, "train")
    keeps = {seed: keep_at_random(seed, 0.25)(windows) for seed in (0, 1)}
    assert {int((~keep).sum()) for keep in keeps.values()} == {round(0.25 * len(windows))}
    assert (keeps[0] != keeps[1]).any()
    np.testing.assert_array_equal(keeps[0], keep_at_random(0, 0.25)(windows))
    assert keep_at_random(0, 0.999)(windows).sum() == 1


@pytest.mark.parametrize("by", ["quality", "random"])
def test_validation_and_test_frames_are_never_dropped(storms: Manifest, by: str) -> None:
    words = [f"data.shards={storms.folder}", "data.drop_poor=0.5", f"data.drop_by={by}"]
    plain, dropping = load_config("demo", words[:1]), load_config("demo", words)
    for split, share in (("train", 0.5), ("validation", 1), ("test", 1)):
        every, left = (len(build_reader(config, storms, split)) for config in (plain, dropping))
        assert left == share * every


def test_held_out_events_lose_their_own_poor_windows(storms: Manifest) -> None:
    words = [f"data.shards={storms.folder}", "data.drop_poor=0.25", "data.hold_out=0.25"]
    kept = build_reader(load_config("demo", words), storms, "train")
    held_out = build_reader(load_config("demo", [*words, "data.only_held_out=true"]), storms, "train")
    assert not set(kept.events().tolist()) & set(held_out.events().tolist())
    assert (len(kept), len(held_out)) == (54, 18)


def test_arms_drop_the_same_windows(storms: Manifest) -> None:
    starts = [
        build_reader(
            load_config("demo", [f"data.shards={storms.folder}", "data.drop_poor=0.3", f"arm={arm}"]), storms, "train"
        ).windows.starts
        for arm in ("radar", "dualpol", "placebo")
    ]
    np.testing.assert_array_equal(starts[0], starts[1])
    np.testing.assert_array_equal(starts[0], starts[2])


def test_digests_change_only_if_windows_are_dropped() -> None:
    plain, poor = load_config("demo"), load_config("demo", ["data.drop_poor=0.2"])
    chance = load_config("demo", ["data.drop_poor=0.2", "data.drop_by=random"])
    assert len({digest(config) for config in (plain, poor, chance)}) == 3
    assert digest(plain) == digest(load_config("demo", ["data.drop_poor=0", "data.drop_by=quality"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.drop_poor=1"], "data.drop_poor: must be below 1, got 1"),
        (["data.drop_poor=-0.1"], "data.drop_poor: must be at least 0"),
        (["data.drop_by=luck"], "data.drop_by: unknown value 'luck'"),
        (["data.drop_by=random"], "data.drop_by: no windows are dropped"),
        (["data.drop_poor=0.1", "data.reader=stream"], "data.drop_poor: not supported for streams"),
    ],
)
def test_bad_settings_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_config("demo", words)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_shards_without_zdr_are_judged_by_zh(storms: Manifest, tmp_path: Path) -> None:
    archive = open_archive(Path(storms.folder).parent / "archive").select(["zh"], [1.0])
    write_shards(archive, tmp_path / "shards", split="0.75/0.125/0.125")
    found = judge_frames(read_manifest(tmp_path / "shards"))
    assert found.report["variables"] == ["zh"]
    assert len(found.report["features"]) == len(OF_FIELD) + 1


def test_a_reader_without_a_choice_reads_all(storms: Manifest) -> None:
    reader = open_reader(storms, "train", variables=["zh"], heights_km=[1.0])
    assert len(reader) == 96
