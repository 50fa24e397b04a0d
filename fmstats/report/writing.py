"""Fill the templates and write the page."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmstats.drift import Comparison
from fmstats.errors import FmstatsError, needs
from fmstats.output.files import check_place, check_suffix, write_whole
from fmstats.output.tables import format_count, format_number, format_plural, format_share
from fmstats.profiles.metadata import name_model
from fmstats.profiles.profile import Profile, check_profile
from fmstats.report.page import describe_page
from fmstats.report.readable import make_readable
from fmstats.storage.exports import format_json

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# One script for the browser; what is used stands before its users.
_SCRIPTS = (
    *("numbers.js", "colours.js", "pick.js", "strips.js", "charts.js"),
    *("blocks.js", "table.js", "details.js", "main.js"),
)
SUFFIXES = (".html", ".htm")


def write_report(profile: Profile, path: str | Path, comparison: Comparison | None = None) -> None:
    """Write a page on a profile that any browser shows, without a network and without other files.

    Args:
        profile: what it is about.
        path: a file that ends in `.html`; it appears whole or not at all.
        comparison: of this profile with its baseline, as `profile.compare(...)` gives it: the page
            then shows drift, too.

    Raises:
        FmstatsError: as `check_report` and `render`, or the disk refuses.
    """
    path = Path(path)
    check_report(path)
    write_whole(path, render(profile, comparison).encode("utf-8"))


def check_report(path: Path) -> None:
    """Refuse a file that `write_report` could not write.

    Raises:
        FmstatsError: it does not end in `.html`, its folder is missing or closed, or jinja2 is
            missing.
    """
    check_suffix(path, SUFFIXES, "a report")
    check_place(path)
    _make_environment()


def render(profile: Profile, comparison: Comparison | None = None) -> str:
    """Render the page of `write_report` as text.

    Raises:
        FmstatsError: jinja2 is missing, or the comparison is of other layers or channels.
    """
    check_profile(profile, "a report")
    if comparison is not None:
        _check_comparison(comparison, profile)
    environment = _make_environment()
    template, groups = environment.get_template("profile.html.j2"), profile.groups

    def render_part(part: Profile, group: str | None = None) -> Markup:
        # What has drifted is known of all positions together.
        context = describe_page(part, comparison if group is None else None)
        context |= {"data": _embed_json(context["data"]), "groups": list(groups), "group": group}
        return _trust(template.render(context))

    # Its licence asks to be in every copy.
    plot = f"/*\n{_read('uPlot.LICENSE')}*/\n{_read('uPlot.iife.min.js')}"
    own = "\n".join(map(_read, _SCRIPTS))
    style = _read("uPlot.min.css") + "\n" + _read("page.css")
    return environment.get_template("page.html.j2").render(
        model=name_model(profile.metadata),
        shown=render_part(profile),
        parts=[render_part(part, name) for name, part in groups.items()],
        plot=_trust(plot),
        script=_trust(own),
        style=_trust(style),
        script_hashes=[_hash(plot), _hash(own)],
        style_hash=_hash(style),
    )


def _check_comparison(comparison: Comparison, profile: Profile) -> None:
    advice = "give profile.compare(baseline) of this profile"
    for layer in comparison.layers:
        if layer.layer not in profile:
            raise FmstatsError(
                f"the comparison has a layer {layer.layer!r} that the profile has not: {advice}"
            )
        compared, channels = layer.effects.shift.size, profile[layer.layer].channels
        if compared != channels:
            raise FmstatsError(
                f"the comparison compares {compared} channels of layer {layer.layer!r}, of which "
                f"the profile has {channels}: {advice}"
            )


def _make_environment() -> Environment:
    with needs("a report", "jinja2", "'fmstats[report]'"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_finalize,
        loader=PackageLoader("fmstats.report", "assets"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"count": format_count, "number": format_number, "share": format_share}
    environment.filters["readable"] = make_readable
    environment.globals["plural"] = format_plural
    return environment


def _finalize(value: Any) -> Any:
    """Make any text that a template puts out readable; jinja2 escapes it afterwards."""
    # Not what is marked as safe, a subclass of str: scripts, styles, JSON and the output of macros.
    return make_readable(value) if type(value) is str else value


def _embed_json(values: dict[str, Any]) -> Markup:
    """Return JSON for a script element, escaped so that no text in it ends the element."""
    text = format_json(values)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _trust(text)


def _read(name: str) -> str:
    return files("fmstats.report").joinpath("assets", name).read_text(encoding="utf-8")


def _trust(text: str) -> Markup:
    """Mark text as safe for the page: files of this package, and JSON made safe."""
    from markupsafe import Markup

    return Markup(text)


def _hash(text: str) -> str:
    """Return the hash that a Content-Security-Policy needs for an inline script or style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
