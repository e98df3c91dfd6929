"""The program that makes a W&B Report of a suite, filled in."""

import json
import re
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("report_template.txt")
_CONSTANT = re.compile(r'^(ENTITY|PROJECT|GROUP) = "[^"]*"', re.MULTILINE)


def report_program(group: str, project: str, entity: str = "") -> str:
    """Return the text of `report_template.txt` with its constants replaced.

    Args:
        group: W&B group: the name of the suite's folder.
        project: W&B project.
        entity: W&B user or team; the default one if empty.
    """
    values = {"ENTITY": entity, "PROJECT": project, "GROUP": group}
    text = _CONSTANT.sub(
        lambda found: f"{found[1]} = {json.dumps(values[found[1]], ensure_ascii=False)}", _TEMPLATE.read_text("utf-8")
    )
    return text.rstrip("\n")
