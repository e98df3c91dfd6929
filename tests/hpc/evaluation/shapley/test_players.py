"""Players: every input field belongs to exactly one, and what a run lacks is told in one line."""

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.evaluation.shapley.players import folder_name, players_of
from polarcast.models.forecaster import InputSpec

QPE = InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0))
NOWCAST = InputSpec(("zh", "zdr", "kdp"), (1.0, 3.0), 5, 5)
GRAMMAR = {
    "channels": ["zh 1 km", "zh 3 km", "zdr 1 km", "zdr 3 km", "kdp 1 km", "kdp 3 km"],
    "variables": ["zh", "zdr", "kdp"],
    "heights": ["1 km", "3 km"],
    "times": [f"frame {k}" for k in range(1, 6)],
    "times=2": ["frames 1–3", "frames 4–5"],
    "heights * times=2": ["1 km frames 1–3", "1 km frames 4–5", "3 km frames 1–3", "3 km frames 4–5"],
}


@pytest.mark.parametrize("text", GRAMMAR)
def test_every_field_belongs_to_one_player(text: str) -> None:
    players = players_of(text, NOWCAST)
    assert list(players.names) == GRAMMAR[text]
    assert (players.masks.sum(0) == 1).all()
    assert players.masks.shape[1:] == (5, 3, 2)


def test_channels_are_variables_by_heights() -> None:
    channels, product = players_of("channels", QPE), players_of("variables*heights", QPE)
    assert channels.names == product.names == ("zh 1 km", "zh 3 km", "zh 7 km", "zdr 1 km", "zdr 3 km", "zdr 7 km")
    np.testing.assert_array_equal(channels.masks, product.masks)


def test_a_coalition_has_the_fields_of_its_players() -> None:
    players = players_of("variables", NOWCAST)
    assert not players.fields_of(0).any()
    assert players.fields_of(7).all()
    np.testing.assert_array_equal(players.fields_of(0b101), players.masks[0] | players.masks[2])


def test_features_are_means_of_a_players_fields() -> None:
    radar = torch.rand(2, 5, 3, 2, 4, 4)
    means = players_of("variables*times=2", NOWCAST).means_of(radar)
    torch.testing.assert_close(means[:, 1], radar[:, 3:, 0].mean((1, 2)))


BAD = {
    "colours": (QPE, "unknown players 'colours'"),
    "": (QPE, "unknown players ''"),
    "times": (QPE, "times divides the input into one player"),
    "times=2": (QPE, "times=2 divides the input into one player"),
    "times=6": (NOWCAST, "6 groups of 5 input frames"),
    "times=0": (NOWCAST, "0 groups of 5 input frames"),
    "heights*heights": (QPE, "names an axis twice"),
    "channels*heights": (QPE, "names an axis twice"),
    "channels*times": (NOWCAST, "30 players have 1,073,741,824 coalitions, too many"),
    "variables": (InputSpec(("zh",), (1.0, 3.0)), "variables divides the input into one player, zh"),
    "channels": (InputSpec(("zh",), (1.0,)), "the input has one field, zh"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_the_input_lacks_is_refused(text: str) -> None:
    inputs, line = BAD[text]
    with pytest.raises(BadInput) as error:
        players_of(text, inputs)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_have_plain_names() -> None:
    assert folder_name("variables * times=2") == "variables-times2"
