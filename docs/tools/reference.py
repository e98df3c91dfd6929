"""The generated pages of the reference, made of the code when the site is built."""

from collections.abc import Mapping
from functools import cache

from docs.tools import api, keys, model_pages, verbs


@cache
def pages() -> Mapping[str, str]:
    """Return the text of each generated page by its path below docs/."""
    return {**verbs.pages(), **keys.pages(), **model_pages.pages(), **api.pages()}
