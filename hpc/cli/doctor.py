"""The verb `polarcast doctor`."""

from polarcast.hpc.utils.console import Json, report_findings


def doctor(as_json: bool = Json) -> None:
    """Check that this machine can do the work: packages, DeepSpeed, two talking processes, disk, GPU, Slurm.

    Under srun or torchrun, the nodes are held against each other: versions, this folder, and how fast they talk.

    Example: polarcast doctor --json, or: srun -N2 polarcast doctor
    """
    from polarcast.hpc.distributed.doctor import examine, examine_nodes
    from polarcast.hpc.distributed.world import detect

    world = detect()
    findings = examine() if world.size == 1 else examine_nodes(world)
    if world.is_first:
        report_findings(findings, as_json)
