import base64
import io

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from PIL import Image
from timo_widgets.base import style


def test_colours_are_distinct_and_start_with_the_safe_ones():
    colours = style.class_colours(12)
    assert colours[:8] == [colour.upper() for colour in style.OKABE_ITO]
    assert len(set(colours)) == 12


@pytest.mark.parametrize(("colour", "text"), [("#F0E442", "#000000"), ("#0072B2", "#FFFFFF")])
def test_text_is_legible_on_a_colour(colour, text):
    assert style.text_colour(colour) == text


def test_pictures_are_exact():
    rgba = np.random.default_rng(0).integers(0, 255, (20, 30, 4), dtype="uint8")
    rgba[..., 3] = 255
    head, data = style.picture_uri(rgba).split(",")
    assert head in {"data:image/webp;base64", "data:image/png;base64"}
    packed = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(packed), rgba)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(style.png(rgba)))), rgba)


def test_message_is_escaped_and_read_out():
    message = style.Message()
    assert message.layout.display == "none"
    message.error(ValueError("<b>5 > 4</b>"), "Try again.")
    assert message.kind == "error"
    assert "&lt;b&gt;5 &gt; 4&lt;/b&gt; Try again." in message.value
    assert 'role="alert"' in message.value
    assert message.layout.display is None
    message.error(KeyError())
    assert message.text == "KeyError"
    message.clear()
    assert (message.kind, message.value) == ("", "")


def test_button_says_what_it_does():
    pressed = []
    made = style.button("Save", "download", "Save the map", lambda: pressed.append(1))
    made.click()
    assert pressed == [1]
    assert (made.description, made.icon, made.tooltip) == ("Save", "download", "Save the map")


def test_picture_goes_with_the_widget():
    class Shown(style.PictureFallback, ipywidgets.VBox):
        def picture(self):
            return b"png"

    data, _ = Shown()._repr_mimebundle_()
    assert data["image/png"] == b"png"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_close_tree_leaves_nothing():
    before = set(_instances)
    box = ipywidgets.VBox([ipywidgets.HBox([ipywidgets.Button()]), style.style_sheet()])
    assert set(_instances) - before
    style.close_tree(box)
    assert set(_instances) == before
