"""Write the bundle of a finished suite."""

from pathlib import Path
from tempfile import TemporaryDirectory

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.hpc.bench.bundle.archive import write_members
from polarcast.hpc.bench.bundle.compare import rows_of
from polarcast.hpc.bench.bundle.contents import WRITE_AGAIN, collect
from polarcast.hpc.bench.bundle.note import NOTE, Bundle
from polarcast.hpc.bench.bundle.verify import opened, verified


def write_bundle(folder: Path, file: Path) -> Bundle:
    """Write the bundle of a finished suite, after verifying it as its readers will; see `collect`.

    Raises:
        BadInput: the suite can't be bundled, or its tables do not follow from its records, as after an update.
    """
    bundle = collect(folder)
    with TemporaryDirectory(prefix="polarcast-bundle-") as unpacked:
        found = verified(opened(bundle, Path(unpacked), folder))
    if wrong := [one for one in found.agreements if not one.is_ok]:
        first = next(rows_of(wrong), "")
        raise BadInput(f"does not follow from its records: {first}", folder, WRITE_AGAIN)
    checked_output(file).parent.mkdir(parents=True, exist_ok=True)
    write_members(file, {NOTE: bundle.note.as_bytes(), **bundle.members})
    return bundle
