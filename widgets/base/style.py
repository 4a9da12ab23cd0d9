"""How the widgets look: colours that all eyes can tell apart, one style sheet, messages, buttons, saved pictures."""

from __future__ import annotations

import base64
import colorsys
import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anywidget
import ipywidgets
import numpy as np

from timo.checks import Range, checked
from timo.errors import TimoError

Control = TypeVar("Control", bound=ipywidgets.Widget)

# Okabe and Ito, "Color Universal Design" (2008), in an order that keeps neighbours far apart. Their black would vanish
# on a dark theme: grey stands for it. Their yellow comes late, since it is faint on white.
OKABE_ITO = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#8C8C8C",
)
# A masked observation: neither of the series' colours, and visible on white and on black.
MASKED = "#8C8C8C"

CSS = """
.timo { color: var(--jp-ui-font-color1, #212121); font-family: var(--jp-ui-font-family, sans-serif); }
.timo .widget-label, .timo label { color: var(--jp-ui-font-color1, #212121); }
.timo .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab { color: var(--jp-ui-font-color1, #212121); }
.timo .widget-toggle-buttons > .widget-label { margin-right: 8px; }
.timo .leaflet-container { background: var(--jp-layout-color3, #bdbdbd); }
/* Its icon is black in every theme. */
.timo .leaflet-control-fullscreen-button { background-color: #ffffff !important; }
.timo .leaflet-div-icon { background: none; border: none; }
.timo .leaflet-draw-toolbar a { background-color: #ffffff !important; }
.timo .leaflet-image-layer { image-rendering: pixelated; }
.timo .leaflet-container:focus-visible, .timo svg:focus-visible, .timo a:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
.timo-pin { display: block; width: 18px; height: 18px; border-radius: 11px; border: 2px solid #ffffff;
  box-shadow: 0 0 2px #000000; font: bold 11px/18px var(--jp-ui-font-family, sans-serif); text-align: center; }
.timo-message { padding: 4px 8px; line-height: 1.4; border-left: 4px solid var(--jp-info-color1, #0072B2);
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color2, #eeeeee); white-space: normal; }
.timo-message-error { border-left-color: var(--jp-error-color1, #d32f2f); }
.timo-message-busy { border-left-color: var(--jp-warn-color1, #E69F00); }
.timo-message b { margin-right: 6px; }
.timo-link { display: inline-block; padding: 0 10px; line-height: 28px; border-radius: 2px;
  text-decoration: none; background: var(--jp-layout-color2, #eeeeee);
  color: var(--jp-ui-font-color1, #212121) !important; }
.timo-link:hover { box-shadow: 0 1px 3px rgba(0, 0, 0, 0.4); }
.timo-link-off { opacity: 0.5; cursor: not-allowed; }
.timo-note { color: var(--jp-ui-font-color2, #616161); font-size: var(--jp-ui-font-size1, 13px); }
.timo-date { line-height: 1.35; white-space: nowrap; }
.timo-ramp { display: inline-block; width: 120px; height: 10px; margin: 0 6px; vertical-align: middle; }
"""


@checked
def class_colours(n: Annotated[int, Range(least=0, most=10_000)]) -> list[str]:
    """Return colours for `n` classes or series, as hex.

    The first eight are those of Okabe and Ito, which people with any colour vision tell apart. More than eight cannot
    be told apart by colour alone: each further round is darker, and needs names beside it.
    """
    colours = []
    for i in range(n):
        red, green, blue = rgb(OKABE_ITO[i % len(OKABE_ITO)])
        hue, light, saturation = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
        darker = light * 0.6 ** (i // len(OKABE_ITO))
        parts = colorsys.hls_to_rgb(hue, darker, saturation)
        colours.append("#" + "".join(f"{round(255 * part):02X}" for part in parts))
    return colours


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0..255, of a colour written ``#RRGGBB``."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
        raise TimoError(
            f"The colour {colour!r} is not understood. Write it as #RRGGBB, e.g. #0072B2."
        )
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def text_colour(colour: str) -> str:
    """Return black or white, whichever is read better on the colour."""
    red, green, blue = rgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"


class StyleSheet(anywidget.AnyWidget):
    """The style sheet, and names for screen readers; nothing of it is seen.

    In the browser it looks after the outermost box of class ``timo`` around it: what ipywidgets leaves without a name
    (handles of sliders, players, groups of buttons, bars of progress) is called by its description or else its
    tooltip, sliders over dates say the date, and maps and their pins say what they are.
    """

    # As text: of a path anywidget would keep every widget ever made, to notify it when the file changes.
    _esm = (Path(__file__).parent / "names.js").read_text(encoding="utf-8")
    _css = CSS


def style_sheet() -> StyleSheet:
    """Make the style sheet, a widget without size: put it among the children of a box of class ``timo``."""
    return StyleSheet(layout={"display": "none"})


def png(rgba: np.ndarray) -> bytes:
    """Pack a (y, x, 4) uint8 picture as PNG, quickly rather than small."""
    return _packed(rgba, "PNG", compress_level=1)


def picture_uri(rgba: np.ndarray) -> str:
    """Return the address that holds a (y, x, 4) uint8 picture, exact and quickly made.

    WebP without loss: every browser shows it, and it is packed four times faster than PNG. PNG where Pillow was built
    without WebP.
    """
    from PIL import features

    if features.check("webp"):
        return data_uri(_packed(rgba, "WEBP", lossless=True, method=0, quality=0), "image/webp")
    return data_uri(png(rgba))


def _packed(rgba: np.ndarray, kind: str, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return the address that holds the content itself: it needs no server."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def figure_png(figure: Any, dpi: int = 80) -> bytes:
    """Return a matplotlib figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def button(
    text: str,
    icon: str = "",
    tooltip: str = "",
    on_click: Callable[[], Any] | None = None,
    style: str = "",
) -> ipywidgets.Button:
    """Make a labelled button, never an icon alone; `icon` is a name of Font Awesome, `on_click` takes no argument."""
    made = ipywidgets.Button(
        description=text,
        icon=icon,
        tooltip=tooltip or text,
        button_style=style,
        layout={"width": "auto", "flex": "0 0 auto"},
    )
    if on_click is not None:
        made.on_click(lambda _: on_click())
    return made


def close_tree(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that hangs on it: children, layers, layouts, styles.

    ipywidgets closes the widget alone, and keeps the rest until the kernel ends.
    """
    waiting, seen = [widget], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for name in one.keys:
            value = getattr(one, name)
            parts = value if isinstance(value, list | tuple) else [value]
            waiting += [part for part in parts if isinstance(part, ipywidgets.Widget)]
        one.close()


def control(
    kind: type[Control], text: str, width: str = "auto", label: str = "initial", **traits: Any
) -> Control:
    """Make a control with its description, which screen readers read, too; the widths are in CSS."""
    layout, style = {"width": width}, {"description_width": label}
    return kind(description=text, layout=layout, style=style, **traits)


class Message(ipywidgets.HTML):
    """One line that says what goes on, or what went wrong and what to do; nothing is shown while there is nothing.

    Screen readers read it out: politely, and errors at once. `value` is HTML: set it through the methods, which escape
    what they are given; `text` is the same without mark-up.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.clear()
        if text:
            self.info(text)

    def clear(self) -> None:
        """Say nothing."""
        self.kind, self.text = "", ""
        self.value = ""
        self.layout.display = "none"

    def info(self, text: str) -> None:
        """Say something."""
        self._say("info", text)

    def busy(self, text: str) -> None:
        """Say what is waited for."""
        self._say("busy", text)

    def error(self, problem: object, remedy: str = "") -> None:
        """Say what went wrong (a text or an exception), and what to do about it."""
        text = str(problem)
        if isinstance(problem, Exception) and not text.strip():
            text = type(problem).__name__
        self._say("error", f"{text} {remedy}".strip())

    def failure(self, error: Exception) -> None:
        """Say what went wrong; an error that is not ours is named, since its text was not written for this panel."""
        if isinstance(error, TimoError):
            self.error(error)
        else:
            self.error(f"{type(error).__name__}: {error}", "Please report this.")

    def _say(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        role = 'role="alert"' if kind == "error" else 'role="status" aria-live="polite"'
        lead = {"error": "<b>Error</b>", "busy": '<i class="fa fa-spinner fa-spin"></i> '}
        body = lead.get(kind, "") + html.escape(text).replace("\n", "<br>")
        self.value = f'<div class="timo-message timo-message-{kind}" {role}>{body}</div>'
        self.layout.display = None


class PictureFallback:
    """Mixin for widgets: the saved output also holds a picture, for where there is no live kernel.

    JupyterLab and Voila show the widget; GitHub, nbviewer and a saved notebook show the picture. Put it before the
    widget's class among the bases and define ``picture()``.
    """

    def picture(self) -> bytes:
        """Return a PNG of what the widget shows now."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        # ipywidgets gives the data alone or with metadata, by version; None where it is only text.
        data = dict((bundle[0] if isinstance(bundle, tuple) else bundle) or {})
        data["image/png"] = self.picture()
        return data, {}
