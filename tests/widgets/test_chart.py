import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from timo_widgets.base.chart import SeriesChart, iso_dates
from timo_widgets.base.style import OKABE_ITO

from timo.errors import TimoError

DAYS = pd.date_range("2019-01-01", periods=4, freq="10D")


def test_arrays_become_what_a_browser_takes():
    chart = SeriesChart()
    values = np.array([0.5, np.nan, 0.25, np.inf], "float32")
    chart.show([{"name": "a", "values": values}], dates=DAYS, bars=[1, np.nan, 2, None], selected=2)
    state = chart.get_state(["dates", "series", "bars", "selected"])
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["dates"] == ["2019-01-01", "2019-01-11", "2019-01-21", "2019-01-31"]
    assert state["series"] == [
        {
            "name": "a",
            "colour": OKABE_ITO[0],
            "times": [],
            "values": [0.5, None, 0.25, None],
            "valid": [True, False, True, False],
        }
    ]
    assert state["bars"] == [1.0, None, 2.0, None]


def test_traits_that_are_set_are_completed_too():
    chart = SeriesChart(dates=DAYS)
    chart.series = [{"values": np.array([1.0, np.nan]), "times": DAYS[:2], "valid": [False, False]}]
    assert chart.series[0]["values"] == [1.0, None]
    assert chart.series[0]["times"] == ["2019-01-01", "2019-01-11"]
    assert chart.series[0]["valid"] == [False, False]
    assert chart.series[0]["name"] == "series 1"


def test_the_time_of_day_is_kept_where_there_is_one():
    assert iso_dates(np.array(["2019-01-01T06:30"], "M8[ns]")) == ["2019-01-01T06:30:00"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"series": [{"name": "b", "values": [1.0]}]}, "'b' has 1 values"),
        ({"series": [{"name": "b", "values": [1.0] * 4, "valid": [True]}]}, "1 flags for 4"),
        ({"bars": [1.0]}, "1 bars for 4 dates"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(TimoError, match=message):
        SeriesChart(dates=DAYS).show(**arguments)


def test_picture_shows_series_masked_points_and_bars():
    chart = SeriesChart(title="NDVI", height=200)
    chart.show(
        [{"name": "a", "values": [0.1, 0.2, 0.3, None], "valid": [True, False, True, False]}],
        dates=DAYS,
        bars=[1, 2, 3, 4],
        selected=1,
    )
    full = np.asarray(Image.open(io.BytesIO(chart.picture())).convert("RGB"))
    blue = (np.abs(full.astype(int) - (0x00, 0x72, 0xB2)).sum(axis=-1) < 30).sum()
    assert blue > 50
    data, _ = chart._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")


def test_the_browser_code_is_there_and_fetches_nothing():
    code = SeriesChart._esm
    text = code if isinstance(code, str) else str(code)
    assert "export default" in text
    assert "import " not in text.split("export default")[0].split("//")[0]
    assert "https://" not in text
