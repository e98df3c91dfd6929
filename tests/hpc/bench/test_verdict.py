"""The three sentences of the verdict, on made-up tables: each follows from intervals by rule."""

import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.report import write_report
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec, load_suite
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.verdict import FILE, verdict_of
from polarcast.hpc.cli.show import show_tables
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import parse_score

RAIN = Protocol("mm/h", (64, 64))
NETS = {"unet": "unet", "wf": "wf_unet", "law": "power_law"}
GAIN, BETTER, NONE, HARM = (-0.3, -0.4, -0.2), (0.1, 0.05, 0.15), (0.0, -0.1, 0.1), (0.3, 0.2, 0.4)
Limits = tuple[float | None, float | None, float | None]


def number(
    model: str, metric: str, limits: Limits, arm: str = "difference", protocol: Protocol = RAIN, **others: object
) -> Record:
    """A comparison with a p-value that fits its interval."""
    score = parse_score(metric)
    value, low, high = limits
    shown = low is not None and high is not None and (low > 0 or high < 0)
    plain = Record(
        table="main", model=model, label=model.upper(), arm=arm, metric=metric, unit="1", value=value, low=low,
        high=high, events=60, support=60, seeds=1 if model == "law" else 3, aggregation="pooled",
        p_value=None if low is None else 1e-4 if shown else 0.5, scale=score.metric.scale, groups=60,
        direction=score.metric.direction, perfect=score.metric.perfect, reference=f"{model}/radar",
    )  # fmt: skip
    return replace(plain, **others)  # type: ignore[arg-type]


def verdict(
    records: Sequence[Record], protocol: Protocol = RAIN, synthetic: bool = False, **settings: object
) -> list[str]:
    models = {name: ModelSpec(label=name.upper(), set={"model": {"name": net}}) for name, net in NETS.items()}
    metrics = list(dict.fromkeys(r.metric for r in records)) or ["rmse"]
    suite = Suite(name="s", seeds=[0, 1, 2], models=models, tables={"main": TableSpec(title="T", metrics=metrics)})
    suite = replace(suite, **settings)  # type: ignore[arg-type]
    found = verdict_of(suite, {"main": ComparisonTable("T", list(records), protocol)}, synthetic)
    assert len(found) == 3
    assert all(sentence.endswith(".") and "None" not in sentence and "nan" not in sentence for sentence in found)
    return found


def test_gains_are_counted_over_all_models_with_the_range_of_their_effects() -> None:
    changes, without, _ = verdict(
        [number("unet", "paper_mse", (-0.5, -0.6, -0.4)), number("wf", "paper_mse", (-0.2, -0.3, -0.1)),
         number("law", "paper_mse", NONE), number("unet", "csi@threshold=10", BETTER)]
    )  # fmt: skip
    assert changes.startswith(
        "Dual-pol improves MSE for 2 of 3 models (−50% to −20%, within [−60%, −10%]); "
        "CSI ≥ 10 mm/h for UNET (+0.100 [+0.0500, +0.150]); "
    )
    assert "95% intervals of single comparisons over 60 test events and 3 seeds, shown after Holm's" in changes
    assert changes.endswith("correction for 4 tests.")
    assert without == "No gain is shown for MSE of LAW."


def test_groups_of_events_are_named() -> None:
    changes, *_ = verdict([number("unet", "rmse", GAIN, groups=7)])
    assert "60 test events in 7 groups" in changes


def test_an_effect_that_correction_does_not_leave_is_not_shown() -> None:
    weak = [number("unet", f"csi@threshold={t}", BETTER, p_value=0.03) for t in (1, 5, 10)]
    changes, without, _ = verdict(weak)
    assert changes.startswith("Dual-pol improves no score of UNET, as far as intervals show")
    assert without.startswith("No gain is shown for CSI ≥ 1 mm/h of UNET; CSI ≥ 5")
    assert verdict(weak[:1])[0].startswith("Dual-pol improves CSI ≥ 1 mm/h for UNET (")


def test_each_question_has_a_correction_over_all_its_comparisons() -> None:
    """A correction for the gains only would favor them: both comparisons share the dual-pol arm."""
    nets = [number(m, f"csi@threshold={t}", BETTER, p_value=0.0005) for m in ("unet", "wf") for t in (1, 5)]
    others = [number("unet", f"csi@threshold={t}", NONE) for t in (10, 20, 30)]
    against = [replace(r, arm="dualpol_vs_placebo", p_value=0.006) for r in (*nets, *others)]
    changes, *_ = verdict([*nets, *others, *against])
    assert "shown after Holm's correction for 7 tests" in changes
    assert "4 of 4 of these gains are shown against the placebo, too" in changes
    weak = [replace(r, p_value=0.009) for r in against]  # 7 × 0.009 is above 0.05, 4 × 0.009 would not be
    assert "none of these gains is shown against the placebo" in verdict([*nets, *others, *weak])[0]


def test_a_span_does_not_reach_over_what_is_undefined() -> None:
    protocol = nowcast_protocol((64, 64), 1, (6.0, 12.0, 18.0), (3.0,))
    tables = {"main": TableSpec(title="T", metrics=["csi@threshold=35,lead_time=*"], rows=["model", "lead_time"])}
    for limits in (BETTER, NONE):
        records = [number("unet", f"csi@threshold=35,lead_time={t}", of, protocol=protocol)
                   for t, of in zip((6, 12, 18), (limits, (None, None, None), limits), strict=True)]  # fmt: skip
        changes, without, _ = verdict(records, protocol, tables=tables, task="nowcast")
        assert "6 min to 18 min" not in changes + without
        assert "6 min" in changes + without


def test_harm_is_said_where_it_is() -> None:
    metrics = [f"rmse@class={c}" for c in (0, 50)]
    tables = {"main": TableSpec(title="T", metrics=["rmse@class=*"], rows=["model", "class"])}
    records = [number(m, metric, of) for m, both in (("unet", (HARM, GAIN)), ("wf", (GAIN, HARM)))
               for metric, of in zip(metrics, both, strict=True)]  # fmt: skip
    _, without, _ = verdict(records, tables=tables)
    assert without == (
        "Harm is shown for RMSE observed 0–10 mm/h of UNET (+30% [+20%, +40%]), "
        "observed ≥ 50 mm/h of WF (+30% [+20%, +40%])."
    )


def test_every_gain_is_of_what_has_a_test() -> None:
    missing = number("wf", "rmse", (None, None, None))
    assert verdict([number("unet", "rmse", GAIN), missing])[1].endswith("every model and score that has a test.")


def test_gains_without_a_comparison_with_the_placebo_are_named() -> None:
    three = [number("unet", f"csi@threshold={t}", BETTER) for t in (1, 5, 10)]
    one = replace(three[0], arm="dualpol_vs_placebo")
    assert "of 1 of these 3 gains that were compared, 1 is shown against the placebo, too" in verdict([*three, one])[0]
    other = number("wf", "rmse", GAIN, "dualpol_vs_placebo")
    assert "for these gains (no placebo arm of their models)" in verdict([*three, other])[2]


def test_few_groups_can_show_nothing_after_correction() -> None:
    few = [number("unet", f"csi@threshold={t}", BETTER, p_value=2.0**-6, groups=7) for t in (1, 5, 10, 20)]
    _, without, rest = verdict(few)
    assert without.startswith("No gain is shown for CSI")
    assert "7 groups of events can't show any among 4 tests" in rest
    assert "groups of events can't" not in verdict([replace(r, groups=60) for r in few])[2]


def test_gains_that_rest_on_one_group_are_counted() -> None:
    heavy = number("unet", "rmse", GAIN, heaviest=0.9)
    assert (
        "1 of these gains has over a quarter of a sum from one group of events (†)"
        in verdict([heavy, number("wf", "rmse", GAIN)])[0]
    )


def test_harm_is_said_as_harm() -> None:
    changes, without, _ = verdict([number("unet", "rmse", HARM), number("wf", "rmse", GAIN)])
    assert "RMSE for 1 of 2 models" in changes
    assert without == "Harm is shown for RMSE of UNET (+30% [+20%, +40%])."
    _, both, _ = verdict([number("unet", "csi@threshold=10", (-0.1, -0.15, -0.05)), number("wf", "rmse", NONE)])
    assert (
        both == "No gain is shown for RMSE of WF; harm is shown for CSI ≥ 10 mm/h of UNET (−0.100 [−0.150, −0.0500])."
    )


def test_a_gain_everywhere_leaves_nothing_to_say() -> None:
    assert verdict([number("unet", "rmse", GAIN)])[1] == "A gain is shown for every model and score compared."


def test_one_seed_claims_nothing_of_trained_models() -> None:
    lone: dict[str, Any] = {"lacks_seeds": True, "seeds": 1}
    changes, without, rest = verdict(
        [number("law", "rmse", GAIN), number("unet", "rmse", GAIN, **lone), number("wf", "rmse", HARM, **lone)]
    )
    assert changes.startswith("Dual-pol improves RMSE for LAW (−30% [−40%, −20%]); ")
    assert changes.endswith(
        "these models have no randomness, and trained models are not comparable with one seed (UNET and WF)."
    )
    assert "seeds, shown" not in changes
    assert without == "A gain is shown for every model and score that has a test."
    assert "the spread between training runs of UNET and WF (one seed)" in rest
    only, nothing, _ = verdict([number("unet", "rmse", GAIN, **lone)])
    assert only == "What dual-pol changes is not known: trained models are not comparable with one seed (UNET)."
    assert nothing == "No gain is shown for any score."


def test_one_seed_is_no_test_of_the_correction() -> None:
    weak = [number("law", "rmse", GAIN, p_value=0.03), number("unet", "rmse", GAIN, p_value=0.03, lacks_seeds=True)]
    assert "RMSE for LAW" in verdict(weak)[0]


PLACEBO: dict[str, Any] = {"arm": "dualpol_vs_placebo", "reference": "unet/placebo"}


def test_gains_are_held_against_the_placebo() -> None:
    of_arms = [number("unet", "rmse", GAIN), number("unet", "csi@threshold=10", BETTER)]
    kept = [number("unet", "rmse", GAIN, **PLACEBO), number("unet", "csi@threshold=10", NONE, **PLACEBO)]
    changes, _, rest = verdict([*of_arms, *kept])
    assert "1 of 2 of these gains are shown against the placebo, too" in changes
    assert "placebo" not in rest


def test_a_placebo_that_gains_as_much_is_no_sign_of_information() -> None:
    same = [number("unet", "rmse", GAIN), number("unet", "rmse", NONE, **PLACEBO)]
    itself = number("unet", "rmse", GAIN, "placebo_vs_radar")
    changes, *_ = verdict([*same, itself])
    expected = "none of these gains is shown against the placebo, which gains over radar itself in 1 of 1: no sign of "
    assert expected + "information" in changes
    assert "none of these gains is shown against the placebo: no sign of information" in verdict(same)[0]
    worse = [same[0], number("unet", "rmse", HARM, **PLACEBO)]
    assert "against the placebo, and dual-pol is worse than it in 1: no sign of information" in verdict(worse)[0]


def test_a_control_of_more_frames_is_told_apart() -> None:
    models = {
        "unet": ModelSpec(label="UNET", set={"model": {"name": "unet"}}),
        "context": ModelSpec(
            label="ZH of 3 frames", arms=["radar"], set={"model": {"name": "unet"}, "data": {"context": 2}}
        ),
    }
    difference = number("unet", "rmse", GAIN)
    _, _, without = verdict([difference], models=models)
    assert "the time-context control ZH of 3 frames, with which no table compares dual-pol of the same" in without
    for limits, text in (
        (GAIN, "1 of 1 of these gains is"),
        (NONE, "none of 1 of these gains are"),
    ):
        beside = number("unet", "rmse", limits, "dualpol_vs", reference="context/radar")
        changes, _, rest = verdict([difference, beside], models=models)
        assert f"{text} shown against radar of more frames (time context), too" in changes
        assert "time" not in rest
    # A reference of as many frames is no such control.
    other = number("unet", "rmse", GAIN, "dualpol_vs", reference="unet/radar")
    assert "time context" not in verdict([difference, other], models=models)[0]


def test_what_was_not_tested() -> None:
    records = [number("unet", "rmse", GAIN), number("wf", "csi@threshold=50", (None, None, None))]
    _, _, real = verdict(records)
    assert real == (
        "Not tested: as many inputs without information (no placebo arm); what more frames of radar would tell (no "
        "time-context control); CSI ≥ 50 mm/h of WF (undefined or without interval); other radars, climates and years."
    )
    assert "real storms (these are synthetic); other radars" in verdict(records, synthetic=True)[2]
    lone = number("unet", "rmse", GAIN, lacks_seeds=True, **PLACEBO)
    assert "the placebo, without an interval that includes seeds" in verdict([*records, lone])[2]


def test_coordinates_of_a_score_are_joined() -> None:
    metrics = [f"rmse@class={c}" for c in (0, 10, 30, 50)]
    limits = (NONE, GAIN, GAIN, HARM)
    records = [number("unet", m, of) for m, of in zip(metrics, limits, strict=True)]
    tables = {"main": TableSpec(title="T", metrics=["rmse@class=*"], rows=["model", "class"])}
    changes, without, _ = verdict(records, tables=tables)
    assert "RMSE for UNET observed 10–30 mm/h to 30–50 mm/h (" in changes
    assert without == (
        "No gain is shown for RMSE observed 0–10 mm/h of UNET; "
        "harm is shown for RMSE observed ≥ 50 mm/h of UNET (+30% [+20%, +40%])."
    )


def test_nowcasts_are_told_by_lead_time() -> None:
    protocol = nowcast_protocol((64, 64), 1, (6.0, 12.0, 18.0), (3.0,))
    metrics = [f"csi@threshold=35,lead_time={t}" for t in (6, 12, 18)]
    records = [number(m, metric, of, protocol=protocol) for m in ("unet", "wf")
               for metric, of in zip(metrics, (NONE, BETTER, BETTER), strict=True)]  # fmt: skip
    tables = {"main": TableSpec(title="T", metrics=["csi@threshold=35,lead_time=*"], rows=["model", "lead_time"])}
    changes, without, _ = verdict(records, protocol, tables=tables, task="nowcast")
    assert "CSI ≥ 35 dBZ for 2 of 2 models 12 min to 18 min (" in changes
    assert without == "No gain is shown for CSI ≥ 35 dBZ 6 min of any of 2 models."


def test_scores_that_are_functions_of_each_other_count_once() -> None:
    same = [number("unet", name, GAIN) for name in ("paper_mse", "rmse", "paper_mre", "paper_rbias", "ne")]
    changes, *_ = verdict(same)
    assert changes.startswith("Dual-pol improves MSE for UNET (−30% [−40%, −20%]); RBIAS for UNET (")
    assert "for 2 tests" in changes
    assert changes.count("UNET") == 2


def test_a_comparison_that_two_tables_show_counts_once() -> None:
    spec = TableSpec(title="T", metrics=["rmse"])
    twice = [number("unet", "rmse", GAIN), number("unet", "rmse", GAIN, table="other")]
    models = {"unet": ModelSpec(label="UNET")}
    suite = Suite(name="s", models=models, tables={"main": spec, "other": spec})
    tables = {name: ComparisonTable("T", [of], RAIN) for name, of in zip(suite.tables, twice, strict=True)}
    [changes, *_] = verdict_of(suite, tables, True)
    assert changes.count("RMSE") == 1
    assert "Holm" not in changes
    [nothing, *_] = verdict_of(replace(suite, verdict=["other"]), {"main": tables["main"]}, True)
    assert nothing == "No model is compared on radar and dual-pol."


def test_bounds_and_models_without_a_radar_arm_of_their_own_do_not_count() -> None:
    models = {"unet": ModelSpec(label="UNET"), "wf": ModelSpec(label="WF", radar_of="unet"),
              "law": ModelSpec(label="LAW", synthetic_only=True)}  # fmt: skip
    changes, *_ = verdict([number(m, "rmse", GAIN) for m in models], models=models)
    assert "RMSE for UNET (" in changes


def test_scores_without_better_values_do_not_count_and_biases_only_on_a_known_side() -> None:
    nb = number("unet", "nb", (-5.0, -6.0, -4.0))
    arms = [replace(nb, arm=arm, value=v, low=v - 1, high=v + 1, p_value=None, scale="", reference="")
            for arm, v in (("radar", 8.0), ("dualpol", 3.0))]  # fmt: skip
    gain = number("unet", "hk_gain@threshold=10,window=9", BETTER)
    changes, *_ = verdict([nb, *arms, gain])
    assert changes.startswith("Dual-pol improves NB for UNET (−5.00 [−6.00, −4.00]); 95%")
    unknown = [arms[0], replace(arms[1], value=-3.0, low=-4.0, high=-2.0)]
    assert verdict([nb, *unknown])[1] == "No gain is shown for NB of UNET."


def test_a_gain_of_the_mse_in_the_papers_form_is_positive() -> None:
    changes, *_ = verdict([number("unet", "paper_mse", (4.7, 3.0, 6.0), scale="gain")])
    assert changes.startswith("Dual-pol improves MSE (difference) for UNET (+4.70 [+3.00, +6.00]); ")


def test_the_tables_of_a_verdict_are_those_of_the_suite(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("verdict: [main, other]\nmodels: {a: {label: A}}\ntables: {main: {title: T}}\n")
    with pytest.raises(BadInput, match="unknown table 'other'"):
        load_suite(str(file))


SENTENCES = ["Dual-pol improves RMSE for Law [b].", "No gain is shown for NB.", "Not tested: <b>."]


def test_it_ends_the_output_and_stands_on_top_of_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / FILE).write_text("\n".join([*SENTENCES, ""]))
    tables = {"main": ComparisonTable("A table", [number("unet", "rmse", GAIN)], RAIN)}
    show_tables(tables, tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out)["verdict"] == SENTENCES
    show_tables(tables, tmp_path, as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.index("A table") < shown.index(" ".join(SENTENCES))
    write_report(tmp_path / "r.html", "R", tables, [], {}, verdict=SENTENCES, with_paper=False)
    page = (tmp_path / "r.html").read_text("utf-8")
    positions = [page.index(f"<p>{escape(sentence)}</p>") for sentence in SENTENCES]
    assert positions == sorted(positions)
    assert positions[-1] < page.index("A table")
