"""Names of nets: `zoo:NAME` of one that comes with polarcast, `zoo:FOLDER`, or `zoo:https://…`."""

from pathlib import Path

from polarcast.data.errors import BadInput, nearest
from polarcast.data.names import problem_of_name
from polarcast.hpc.zoo.note import NETS, NOTE, NOTE_BYTES, ZooNote, parse_note, read_file, read_net

PREFIX = "zoo:"


def is_reference(text: str) -> bool:
    """Return whether a text names a net of the zoo, not the folder of a run."""
    return text.startswith(PREFIX)


def built_in(nets: Path | None = None) -> dict[str, ZooNote]:
    """Return the nets that come with polarcast, by name in alphabetical order. Their other files are not read.

    Raises:
        BadInput: a `zoo.json` is damaged.
    """
    root = NETS if nets is None else nets
    folders = sorted(path.parent for path in root.glob(f"*/{NOTE}") if not path.parent.name.startswith("."))
    return {folder.name: parse_note(read_file(folder / NOTE, NOTE_BYTES), folder / NOTE) for folder in folders}


def net_folder(reference: str, nets: Path | None = None) -> Path:
    """Return the folder of a net; one behind a URL is downloaded to the user's cache first.

    Args:
        reference: Name, folder or URL of a net, with or without `zoo:`.
        nets: Folder of the nets that come with polarcast.

    Raises:
        BadInput: there is no such net, or its URL can't be used.
    """
    named = reference.removeprefix(PREFIX)
    if not named:
        raise BadInput("names no net", reference, "list nets with: polarcast zoo")
    if "://" in named:
        from polarcast.hpc.zoo.download import downloaded

        return downloaded(named)
    if "/" in named or named.startswith((".", "~")):
        return Path(named).expanduser()
    root = NETS if nets is None else nets
    if not problem_of_name(named) and (root / named / NOTE).is_file():
        return root / named
    raise _unknown(named, sorted(path.parent.name for path in root.glob(f"*/{NOTE}")))


def checked_net(reference: str) -> Path:
    """Return the folder of a net whose files are verified; nothing heavy is imported.

    Raises:
        BadInput: there is no such net, it can't be downloaded, or a file is damaged.
    """
    folder = net_folder(reference)
    read_net(folder)
    return folder


def _unknown(name: str, known: list[str]) -> BadInput:
    here = Path(name)
    if not problem_of_name(name) and (here / NOTE).is_file():
        return BadInput("no net of this name comes with polarcast", name, f"for the folder, write zoo:./{name}")
    if not known:
        what = "no nets come with this version of polarcast"
        return BadInput(what, name, "give the folder or URL of a net, such as zoo:./nets/mine")
    fix = f"{nearest(name, known)} choose from: {', '.join(known)}; or give a folder or URL".strip()
    return BadInput("no such net", name, fix)
