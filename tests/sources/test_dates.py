"""The grammar of dates: what is written in every accepted form reads back, and nothing is guessed."""

import datetime as dt
import math
import warnings
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.sources.dates import (
    as_moment,
    cf_moments,
    date_of_name,
    date_of_tags,
    find_dates,
    make_span,
    strip_dates,
)

DAY_FORMATS = ("%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y%j", "doy%Y%j", "A%Y%j")
CLOCK_FORMATS = (
    "%Y%m%dT%H%M%S",
    "%Y-%m-%dT%H%M%S",
    "%Y%m%dt%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y-%m-%dT%H-%M-%S",
)

days = st.dates(dt.date(1972, 1, 1), dt.date(2099, 12, 31))
instants = st.datetimes(dt.datetime(1972, 1, 1), dt.datetime(2099, 12, 31)).map(
    lambda time: time.replace(microsecond=0)
)
# Neither letters that would make a number part of a code, nor digits.
prefixes = st.sampled_from(["", "tile_", "T34TFR_", "scene-", "LC08_L2SP_184029_", "x.y_"])
suffixes = st.sampled_from(["", "_B04", "_B04_10m", ".B8A", "-red", "_SCL_20m", "_v2"])


@given(days, st.sampled_from(DAY_FORMATS), prefixes, suffixes)
def test_a_day_in_a_name_is_read_back(day, form, before, after):
    moment = date_of_name(Path(f"{before}{day.strftime(form)}{after}.tif"))
    assert moment is not None
    assert moment.time == pd.Timestamp(day)
    assert not moment.exact


@given(instants, st.sampled_from(CLOCK_FORMATS), prefixes, suffixes)
def test_a_time_in_a_name_is_read_back(instant, form, before, after):
    moment = date_of_name(Path(f"{before}{instant.strftime(form)}{after}.tif"))
    assert moment is not None
    assert moment.time == pd.Timestamp(instant)
    assert moment.exact


@given(days, st.sampled_from(DAY_FORMATS), prefixes, suffixes)
def test_stripping_leaves_no_date_and_all_the_rest(day, form, before, after):
    rest = strip_dates(f"{before}{day.strftime(form)}{after}")
    assert find_dates(rest) == []
    assert before in rest
    assert after in rest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "S2A_MSIL2A_20180701T092031_N0208_R093_T34TFR_20180702T112345.SAFE",
            "2018-07-01T09:20:31",
        ),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_SR_B4.TIF", "2019-07-14"),
        (
            "S1A_IW_GRDH_1SDV_20180701T235950_20180702T000015_022600_0272D5_ABCD_vv.tif",
            "2018-07-01T23:59:50",
        ),
        (
            "s1a-iw-grd-vv-20180701t235950-20180702t000015-022600-0272d5-001.tiff",
            "2018-07-01T23:59:50",
        ),
        ("MOD09A1.A2018185.h19v04.061.2021194031450_sur_refl_b01.tif", "2018-07-04"),
        ("MOD13Q1.061__250m_16_days_NDVI_doy2018177_aid0001.tif", "2018-06-26"),
        ("20180701/B04.tif", "2018-07-01"),
        ("S2A_34TFR_20180701_0_L2A/B04.tif", "2018-07-01"),
        ("20180701_20180701T092031_B04.tif", "2018-07-01T09:20:31"),
        ("HLS.L30.T34TFR.2018182T092031.v2.0.B04.tif", "2018-07-01T09:20:31"),
        ("20180701T092031_20180702T092518_T34TFR_B4.tif", "2018-07-01T09:20:31"),
        ("20180701_092031_1005_3B_AnalyticMS_SR.tif", "2018-07-01T09:20:31"),
        ("20180701_092031_55_1005_3B_AnalyticMS_SR_8b.tif", "2018-07-01T09:20:31"),
        ("SENTINEL2A_20180701-092031-461_L2A_T34TFR_C_V2-2_FRE_B4.tif", "2018-07-01T09:20:31"),
        ("20180701_LEVEL2_SEN2A_BOA.tif", "2018-07-01"),
        ("LC80290292018182LGN00_B4.tif", "2018-07-01"),
        ("ndvi_2018-07.tif", "2018-07-01"),
        ("ndvi_2018-182.tif", "2018-07-01"),
    ],
)
def test_the_sensing_date_of_products(name, expected):
    moment = date_of_name(Path(name))
    assert moment is not None
    assert moment.time == pd.Timestamp(expected)


@pytest.mark.parametrize(
    "name",
    [
        "forest.tif",
        "20181345.tif",
        "2018400.tif",
        "19180701.tif",
        "120180701.tif",
        "LC08_184029.tif",
        "180701.tif",
        "201807.tif",
        "1984-2020_001-365_HL_TSA_LNDLG_RED_TSS.tif",
    ],
)
def test_what_is_no_date_is_none(name):
    assert date_of_name(Path(name)) is None


def test_two_dates_in_a_name_are_not_guessed_between():
    with pytest.raises(
        TimoError, match=r"20180701_20190701\.tif has more than one date.*2018-07-01 and 2019-07-01"
    ):
        date_of_name(Path("change_20180701_20190701.tif"))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ACQUISITION_DATE": "2018:07:01 09:20:31"}, "2018-07-01T09:20:31"),
        (
            {"ACQUISITION_DATE": "2018-07-01", "TIFFTAG_DATETIME": "2020:01:01 00:00:00"},
            "2018-07-01",
        ),
        (
            {"DATE_ACQUIRED": "2018-07-01", "SCENE_CENTER_TIME": "09:20:31.0240000Z"},
            "2018-07-01T09:20:31.024",
        ),
        ({"Date": "2018-07-01T09:20:31.0Z", "Domain": "RED"}, "2018-07-01T09:20:31"),
        ({"acquired": "2018-07-01T09:20:31.5Z"}, "2018-07-01T09:20:31.5"),
        ({"NC_GLOBAL#time_coverage_start": "20180701T092031Z"}, "2018-07-01T09:20:31"),
        ({"start_datetime": "2018-07-01", "end_datetime": "2018-07-10"}, "2018-07-01"),
        ({"DATETIME": "2018-07-01/2018-07-10"}, "2018-07-01"),
        ({"RANGEBEGINNINGDATE": "2018-07-01", "RANGEENDINGDATE": "2018-07-08"}, "2018-07-01"),
        (
            {"ACQUISITION_DATE": "2018-07-01", "ACQUISITION_TIME": "09:20:31Z"},
            "2018-07-01T09:20:31",
        ),
        ({"acquisition_datetime": "2018-07-01T11:20:31+02:00"}, "2018-07-01T09:20:31"),
        ({"SENSING_TIME": "2018-07-01T09:20:31.024Z"}, "2018-07-01T09:20:31.024"),
        ({"ACQUISITION_DATE": "summer", "DATETIME": "2018-07-01 09:20:31"}, "2018-07-01T09:20:31"),
    ],
)
def test_dates_of_tags(tags, expected):
    moment = date_of_tags(tags)
    assert moment is not None
    assert moment.time == pd.Timestamp(expected)


def test_tags_without_a_date_say_nothing():
    assert date_of_tags({"AREA_OR_POINT": "Area", "DATETIME": "12:30:00"}) is None
    # When a file was written or processed is not when the image was taken.
    written = {
        "TIFFTAG_DATETIME": "2018:07:01 09:20:31",
        "date_created": "2018-07-01",
        "date": "2018-07-01",
    }
    assert (
        date_of_tags(written | {"PROCESSING_DATE": "2018-07-01", "history": "2018-07-01"}) is None
    )
    assert date_of_tags({"ACQUISITION_DATE": "07/08/2019"}) is None


@pytest.mark.parametrize(
    "value",
    [
        "2018-07-01",
        "20180701",
        20180701,
        "2018182",
        dt.date(2018, 7, 1),
        pd.Timestamp("2018-07-01"),
        dt.datetime(2018, 7, 1),
    ],
)
def test_a_given_date_has_many_forms(value):
    assert as_moment(value).time == pd.Timestamp("2018-07-01")
    assert not as_moment(value).exact


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        None,
        pd.NaT,
        "12:30:00",
        2018.5,
        True,
        "July 2018",
        "2018-07-01T25:00",
        "2018-02-30",
        "999999",
        "20181345",
        "2018-W27",
        "1.7.",
        math.nan,
        [],
        "20180701 and 20180801",
    ],
)
def test_what_is_no_date_is_refused(value):
    with pytest.raises(TimoError, match="is no date: write it as 2018-07-01"):
        as_moment(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "07/08/2019",
            'it may be 7 August 2019 or 8 July 2019; write "2019-08-07" or "2019-07-08"',
        ),
        (
            "1/2/18",
            'it may be 1 February 2018 or 2 January 2018; write "2018-02-01" or "2018-01-02"',
        ),
        ("31.07.2019", 'cannot be read as a date: write "2019-07-31"'),
        ("180701", 'cannot be read as a date: write "2018-07-01"'),
    ],
)
def test_all_readings_are_named(value, said):
    with pytest.raises(TimoError) as caught:
        as_moment(value)
    assert str(caught.value).endswith(said)


def test_a_month_that_may_be_a_day_is_warned_of():
    with pytest.warns(UserWarning, match="201207 is read as July 2012, and not as 7 December 2020"):
        assert as_moment("201207").time == pd.Timestamp("2012-07-01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_moment("201807").time == pd.Timestamp("2018-07-01")


FORMS = (*DAY_FORMATS[:5], "%Y/%m/%d", "%Y-%j", "%Y:%m:%d", "%Y-%m-%dT00:00:00Z", "%Y-%m-%d 00:00")
MONTHS = ("%Y-%m", "%Y%m", "%Y/%m", "%Y_%m")


@given(days, st.sampled_from(FORMS))
def test_a_day_in_any_form_reads_back(day, form):
    text = day.strftime(form)
    assert as_moment(text) == as_moment(day)
    assert str(as_moment(text)) == day.isoformat()
    if text.isdigit():
        assert as_moment(int(text)) == as_moment(np.int64(text)) == as_moment(day)


@given(days.map(lambda day: day.replace(day=1)), st.sampled_from(MONTHS))
@pytest.mark.filterwarnings("ignore:.*is read as")
def test_a_month_in_any_form_is_its_first_day(day, form):
    assert as_moment(day.strftime(form)).time == pd.Timestamp(day)
    assert as_moment(f"{day.year}").time == pd.Timestamp(day.year, 1, 1)


@given(instants, st.integers(0, 999), st.integers(-12 * 60, 14 * 60))
def test_a_time_with_a_zone_and_a_fraction_is_the_same_instant(instant, milliseconds, minutes):
    exact = pd.Timestamp(instant) + pd.Timedelta(milliseconds, "ms")
    local = exact + pd.Timedelta(minutes=minutes)
    sign, (hours, rest) = "+" if minutes >= 0 else "-", divmod(abs(minutes), 60)
    for zone in (f"{sign}{hours:02d}:{rest:02d}", f"{sign}{hours:02d}{rest:02d}"):
        text = f"{local:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}{zone}"
        assert as_moment(text).time == exact


@given(st.text("0123456789-/._:T ", max_size=20))
@pytest.mark.filterwarnings("ignore:.*is read as")
def test_random_numbers_are_a_date_or_refused(text):
    try:
        moment = as_moment(text)
    except TimoError:
        return
    assert 1950 <= moment.time.year <= 2201
    assert f"{moment.time.year}"[:3] in text or text.strip()[:3] == str(moment.time.year + 1)[:3]


@given(st.text("0123456789-_.T", max_size=30))
def test_random_names_hold_dates_or_none(text):
    assert all(1972 <= moment.time.year <= 2099 for moment in find_dates(text))
    strip_dates(text)


# --- coordinates of time


def cf(values, units="days since 2018-01-01", calendar="standard"):
    moments = cf_moments(np.array(values), {"units": units, "calendar": calendar}, "time of a.nc")
    return [str(moment) for moment in moments]


@pytest.mark.parametrize(
    ("calendar", "day", "expected"),
    [
        ("standard", 181, "2018-07-01"),
        ("gregorian", 181, "2018-07-01"),
        ("proleptic_gregorian", 181, "2018-07-01"),
        ("noleap", 181, "2018-07-01"),
        ("365_day", 365 * 2 + 59, "2020-03-01"),
        ("all_leap", 366 * 2 + 59, "2020-02-29"),
        ("366_day", 60, "2018-03-01"),
        ("360_day", 180, "2018-07-01"),
        ("julian", 181, "2018-07-14"),  # 1 July of the old style
    ],
)
def test_every_calendar_of_cf(calendar, day, expected):
    assert cf([day], calendar=calendar) == [expected]


@pytest.mark.parametrize(
    ("calendar", "day", "named"), [("360_day", 59, "2018-02-30"), ("366_day", 59, "2018-02-29")]
)
def test_days_that_our_calendar_does_not_have_are_refused(calendar, day, named):
    with pytest.raises(
        TimoError, match=rf"time of a.nc: {named} of the calendar .* is no day of ours"
    ):
        cf([0, day], calendar=calendar)


def test_dates_of_other_calendars_as_objects():
    assert str(as_moment(cftime.DatetimeNoLeap(2018, 7, 1, 9))) == "2018-07-01 09:00:00"
    assert str(as_moment(cftime.DatetimeJulian(2018, 7, 1))) == "2018-07-14"
    with pytest.raises(TimoError, match="2018-02-30"):
        as_moment(cftime.Datetime360Day(2018, 2, 30))


def test_units_of_cf():
    assert cf([17713.389247685185], "days since 1970-01-01") == ["2018-07-01 09:20:31"]
    assert cf([1530436831], "seconds since 1970-01-01") == ["2018-07-01 09:20:31"]
    assert cf([0, 6], "months since 2018-01-01") == ["2018-01-01", "2018-07-01"]
    assert cf([20180701], "") == cf(["2018-07-01"], "") == cf([b"20180701"], "") == ["2018-07-01"]
    for values, units in (
        ([1, 2], ""),
        ([1.5], "months since 2018-01-01"),
        ([0.5], ""),
        ([1], "days since soon"),
    ):
        with pytest.raises(TimoError, match="must be dates as the CF conventions write them"):
            cf(values, units)
    with pytest.raises(TimoError, match="a date is missing"):
        cf([1.0, np.nan])


# --- spans


@given(
    days, st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y-%j", "%Y-%m-%dT23:30:00-08:00"])
)
def test_a_span_of_a_day_in_any_form(day, form):
    assert make_span(day.strftime(form), day.strftime(form)) == make_span(day, day)


def test_a_span_of_a_quarter_and_of_a_compact_month():
    assert make_span("2018Q3", "2018-Q3") == (
        pd.Timestamp("2018-07-01"),
        pd.Timestamp("2018-10-01"),
    )
    assert make_span("201807", "201807") == make_span("2018-07", "2018-07")
