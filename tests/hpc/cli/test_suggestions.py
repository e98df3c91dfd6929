"""A mistyped name is answered with the nearest known one, a name like no other with all of them."""

from collections.abc import Callable

import pytest

from polarcast.data.errors import nearest

Here = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("leaderboard", "rank", ".", "--score", "rsme"), "unknown metric 'rsme' — did you mean rmse? choose from: "),
        (("train", "demo", "train.validate_scores=[cis]"), "unknown metric 'cis' — did you mean csi?"),
        (("train", "dmeo"), "dmeo: no such preset or file — did you mean demo? choose a preset (demo, paper"),
        (("train", "standart"), "standart: no such preset or file — did you mean standard?"),
        (("bench", "question-for"), "question-for: no such suite — did you mean question-four?"),
        (("train", "demo", "model.name=simpv"), "unknown model 'simpv' — did you mean simvp? choose from: anvil"),
        (("train", "demo", "train.stesp=3"), "unknown key 'train.stesp' — did you mean train.steps?"),
        (("trian", "demo"), "No such command 'trian'. Did you mean 'train'"),
        (("data", "shrad"), "No such command 'shrad'. Did you mean 'shard'?"),
        (("leaderboard", "rank", ".", "--scroe", "rmse"), "No such option: --scroe"),
    ],
)
def test_the_nearest_name_is_told(polarcast_here: Here, words: tuple[str, ...], meant: str) -> None:
    code, out, err = polarcast_here(*words)
    assert (code, out) == (2, "")
    assert meant in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("leaderboard", "rank", ".", "--score", "skill"), "unknown metric 'skill' — choose from: "),
        (("train", "xyz"), "xyz: no such preset or file — choose a preset (demo, paper, standard)"),
        (("bench", "xyz"), "xyz: no such suite — choose from: "),
        (("train", "demo", "model.name=xyz"), "unknown model 'xyz' — choose from: "),
    ],
)
def test_all_names_are_told_where_none_is_near(polarcast_here: Here, words: tuple[str, ...], told: str) -> None:
    code, out, err = polarcast_here(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_what_is_near() -> None:
    assert nearest("rsme", ["rmse", "mse", "csi"]) == "did you mean rmse?"
    assert nearest("zzz", ["rmse", "mse"]) == ""
    assert nearest("data.turns", ["data.crop"], {"data.turn": "data.flip_rotate"}) == "did you mean data.flip_rotate?"
    for value in (None, 7, "", [], "x" * 10**6):
        assert nearest(value, ["rmse"]) == ""
