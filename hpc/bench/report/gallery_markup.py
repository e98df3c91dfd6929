"""The case gallery as markup: maps side by side, and a slider over their lead times."""

import json
from html import escape

from polarcast.hpc.bench.report.parts import CaseMap, Gallery, GalleryCase
from polarcast.hpc.utils.pages import elements


def gallery_markup(gallery: Gallery) -> list[str]:
    """Return the maps of all cases; without the script of the page, all lead times are shown one after the other."""
    names = escape(json.dumps(list(gallery.frames)))
    lines = [elements.notes(gallery.notes), f'<div class="gallery" data-names="{names}">']
    lines += [_slider(len(gallery.frames))] if len(gallery.frames) > 1 else []
    for case in gallery.cases:
        groups = [_group(name, case, len(gallery.frames)) for name in dict.fromkeys(one.group for one in case.maps)]
        lines += [f"<h3>{escape(case.title)}</h3>", '<div class="cases">', *groups, "</div>"]
    legends = [f'<p class="note">{escape(name)}<br>{drawing}</p>' for name, drawing in gallery.legends.items()]
    return [*lines, "</div>", '<div class="legends">', *legends, "</div>"]


def _slider(count: int) -> str:
    return (
        '<p class="slide" hidden><label>lead time '
        f'<input type="range" name="lead" min="0" max="{count - 1}" step="1" value="0"></label> <output></output></p>'
    )


def _group(name: str, case: GalleryCase, count: int) -> str:
    maps = "".join(_map(one, count) for one in case.maps if one.group == name)
    return f'<div class="group"><p class="note">{escape(name)}</p><div class="maps">{maps}</div></div>'


def _map(one: CaseMap, count: int) -> str:
    frame, kind = "", "zoom"
    if one.frame is not None:
        frame = f' data-frame="{one.frame}"'
        kind += " in-print" if one.frame in (0, count // 2, count - 1) else ""
    image = elements.image(one.content, "png", f"{one.group}: {one.caption}", pixels=True)
    return f'<figure class="{kind}"{frame}>{image}<figcaption>{escape(one.caption)}</figcaption></figure>'
