"""Read W&B offline files: LevelDB-style log blocks that contain W&B's protobuf messages."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 32 * 1024, 7
_FULL, _FIRST, _LAST = 1, 2, 4


def messages(path: Path) -> Iterator[bytes]:
    """Yield each record, joined from its fragments."""
    data, at, parts = path.read_bytes(), _HEAD, b""
    assert data[:4] == b":W&B"
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        assert kind in (_FULL, _FIRST, 3, _LAST)
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


class OfflineRun:
    """Content of all offline folders of a run."""

    def __init__(self, folder: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.config: dict[str, Any] = {}
        self.history: dict[int, dict[str, Any]] = {}
        self.ids: set[str] = set()
        self.groups: set[str] = set()
        self.files: set[str] = set()
        self.artifacts: list[str] = []
        self.job_types: set[str] = set()
        self.contents: dict[str, dict[str, bytes]] = {}
        """Type of each artifact → name of each of its files → content, as staged."""
        for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
            for message in messages(path):
                record = Record()
                record.ParseFromString(message)
                self._add(record)

    def _add(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.ids.add(record.run.run_id)
            self.groups.add(record.run.run_group)
            self.job_types.add(record.run.job_type)
            self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row = {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            self.history.setdefault(record.history.step.num, {}).update(row)
        elif kind == "files":
            self.files |= {item.path for item in record.files.files}
        elif kind == "artifact":
            self.artifacts.append(record.artifact.type)
            files = record.artifact.manifest.contents
            self.contents[record.artifact.type] = {f.path: Path(f.local_path).read_bytes() for f in files}
