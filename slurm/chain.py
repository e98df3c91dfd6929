"""A chain of jobs that wait for each other, submitted step by step, so that a kill in between loses nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from polarcast.slurm.profile import Profile
from polarcast.slurm.render import Job, sbatch_text


@dataclass(frozen=True)
class Link:
    """A job of a chain.

    Attributes:
        name: Name of the link within the chain.
        profile: Settings of the cluster for it.
        job: Command and resources; its conditions are those below.
        after: Links that must succeed first.
        after_any: Links that must have ended first.
    """

    name: str
    profile: Profile
    job: Job
    after: tuple[str, ...] = ()
    after_any: tuple[str, ...] = ()


def scripts(chain: Sequence[Link]) -> dict[str, str]:
    """Return the script of each link, with the names of other links in place of their job ids, to be looked at."""
    ids = {link.name: str(number) for number, link in enumerate(chain, start=1)}
    return {link.name: _script(link, ids) for link in chain}


def submit_chain(
    chain: Sequence[Link],
    known: Mapping[str, str],
    submit: Callable[[str], str],
    record: Callable[[Mapping[str, str]], None],
) -> dict[str, str]:
    """Submit the links of a chain in their order; those that are known are not submitted again.

    Args:
        chain: Links, each after those it waits for.
        known: Job ids by name, of links that were submitted before.
        submit: Function that submits a script and returns the job id.
        record: Called with the ids of all links known so far, after each submission.

    Returns:
        Job ids by name.

    Raises:
        RuntimeError: a script was rejected; those before it are submitted and recorded.
        ValueError: see `sbatch_text`.
    """
    scripts(chain)  # refuse before the first is submitted
    ids = dict(known)
    for link in chain:
        if link.name not in ids:
            ids[link.name] = submit(_script(link, ids))
            record(ids)
    return ids


def _script(link: Link, ids: Mapping[str, str]) -> str:
    conditions = [":".join(ids[name] for name in names) or None for names in (link.after, link.after_any)]
    return sbatch_text(link.profile, replace(link.job, after=conditions[0], after_any=conditions[1]))
