"""The verb `polarcast doctor`."""

from polarcast.hpc.utils.console import Json, report_findings


def doctor(as_json: bool = Json) -> None:
    """Check this machine: packages, DeepSpeed, communication of two processes, disk, GPU, Slurm.

    Under srun or torchrun, compare the nodes: versions, access to the current folder, and speed of communication.

    Example: polarcast doctor --json, or: srun -N2 polarcast doctor
    """
    from polarcast.hpc.distributed.doctor import examine, examine_nodes
    from polarcast.hpc.distributed.world import detect

    world = detect()
    findings = examine() if world.size == 1 else examine_nodes(world)
    if world.is_first:
        report_findings(findings, as_json)
