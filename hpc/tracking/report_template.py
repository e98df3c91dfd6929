"""Make a W&B Report of a suite: training curves by arm, test scores, tables, and what they were made of.

Edit it as you like, and run it on a machine with a network: `python report.py`. It needs the package wandb-workspaces,
and runs that were sent: `polarcast track replay SUITE` and `polarcast track suite SUITE`, both with `--mode online`.
"""

import wandb_workspaces.reports.v2 as wr

ENTITY = ""  # your W&B user or team; the default one if empty
PROJECT = "polarcast"
GROUP = "demo"  # name of the suite's folder, which is the W&B group of its runs
SCORES = ["test/rmse", "test/mae", "test/csi@threshold=10", "test/csi@threshold=35"]  # those that the runs have


def runs_of_arms() -> "wr.Runset":
    """Return the trainings of the group, grouped by arm: a line or bar is the mean over models and seeds of an arm."""
    filters = f"Metric('Group') == {GROUP!r} and Metric('JobType') != 'report'"
    return wr.Runset(entity=ENTITY, project=PROJECT, name="by arm", filters=filters, groupby=["config.arm"])


def each_run() -> "wr.Runset":
    """Return the trainings of the group, one by one."""
    filters = f"Metric('Group') == {GROUP!r} and Metric('JobType') != 'report'"
    return wr.Runset(entity=ENTITY, project=PROJECT, name="each run", filters=filters)


def result_of_suite() -> "wr.Runset":
    """Return the run that holds the report, tables and figures of the suite."""
    filters = f"Metric('Group') == {GROUP!r} and Metric('JobType') == 'report'"
    return wr.Runset(entity=ENTITY, project=PROJECT, name="suite", filters=filters)


def blocks() -> "list[wr.Block]":
    """Return the sections of the report."""
    curves = [
        wr.LinePlot(title="training loss", x="Step", y=["train/loss"]),
        wr.LinePlot(title="validation loss", x="Step", y=["validation/loss"]),
        wr.LinePlot(title="seconds per step", x="Step", y=["train/seconds"]),
    ]
    scores = [wr.BarPlot(title=name.removeprefix("test/"), metrics=[name]) for name in SCORES]
    return [
        wr.TableOfContents(),
        wr.H1(text="Question"),
        wr.P(text="What does dual polarization add? Write here what this suite compares, and what was found."),
        wr.H1(text="Training, by arm"),
        wr.PanelGrid(runsets=[runs_of_arms(), each_run()], panels=curves),
        wr.H1(text="Test scores, by arm"),
        wr.P(text="Bars have no intervals. The tables below have: an effect is one if its interval excludes zero."),
        wr.PanelGrid(runsets=[runs_of_arms(), each_run()], panels=scores),
        wr.H1(text="Tables with intervals"),
        wr.P(text="The run of the suite has each table, and report.html, tables and figures as artifacts."),
        wr.PanelGrid(runsets=[result_of_suite()], panels=[wr.RunComparer()]),
        wr.H1(text="Configurations"),
        wr.PanelGrid(runsets=[each_run()], panels=[wr.RunComparer(diff_only=True)]),
    ]


def main() -> None:
    """Save the report as a draft of the project, and print its address."""
    owner = {"entity": ENTITY} if ENTITY else {}
    report = wr.Report(project=PROJECT, title=f"Suite {GROUP}", blocks=blocks(), **owner)
    report.save(draft=True)
    print(report.url)


if __name__ == "__main__":
    main()
