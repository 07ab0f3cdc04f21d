from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whichmin.report.numbers import duration, mean_sd, number, percent, signed

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (5278, "5,278"),
        (-3, "−3"),
        (0.0, "0"),
        (0.03714, "0.0371"),
        (0.00123, "0.00123"),
        (1.024e-5, "1.02×10⁻⁵"),
        (-0.5, "−0.500"),
        (12345.6, "12,300"),
        (9.996e-4, "0.00100"),
        (1.234e-4, "1.23×10⁻⁴"),
        (99949.0, "99,900"),
        (99950.1, "1.00×10⁵"),
        (3.1e7, "3.10×10⁷"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "not a number"),
    ],
)
def test_a_number_reads_as_people_write_it(value, text):
    assert number(value) == text


@given(st.floats(1e-300, 1e300), st.booleans())
def test_three_digits_are_right_to_half_a_unit(value, negative):
    value = -value if negative else value
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    text = number(value).replace(",", "").replace("×10", "e").translate(superscripts)
    assert float(text) == pytest.approx(value, rel=5.01e-3)


def test_mean_and_deviation_share_a_scale():
    assert mean_sd([1.0e-5, 1.2e-5]) == f"(1.10{NBSP}±{NBSP}0.14)×10⁻⁵"
    assert mean_sd([0.25, 0.35]) == f"0.300{NBSP}±{NBSP}0.071"
    assert mean_sd([1.0e-4, 1.2e-4]) == f"(1.10{NBSP}±{NBSP}0.14)×10⁻⁴"
    assert mean_sd([1.0e-3, 1.2e-3]) == f"0.00110{NBSP}±{NBSP}0.00014"
    assert mean_sd([9.0e4, 9.2e4]) == f"91,000{NBSP}±{NBSP}1,414"
    assert mean_sd([1.0e5, 1.2e5]) == f"(1.10{NBSP}±{NBSP}0.14)×10⁵"
    assert mean_sd([-1.0, 1.02]) == f"0.01{NBSP}±{NBSP}1.43"
    assert mean_sd([2, 4]) == f"3.0{NBSP}±{NBSP}1.4"
    assert mean_sd([0.25]) == mean_sd([0.25, 0.25]) == "0.250"
    assert mean_sd([0.0, 0.0]) == "0"
    assert mean_sd([math.inf, 1.0]) == "1.00"
    assert mean_sd([math.inf, math.inf]) == "–"


def test_units():
    assert duration(0.0312) == f"31{NBSP}ms"
    assert duration(4.23) == f"4.2{NBSP}s"
    assert duration(42.3) == f"42{NBSP}s"
    assert duration(600) == f"10{NBSP}min"
    assert duration(7300) == f"2.0{NBSP}h"
    assert [duration(s) for s in (0.0994, 0.0996)] == [f"99{NBSP}ms", f"0.1{NBSP}s"]
    assert [duration(s) for s in (99.4, 99.6)] == [f"99{NBSP}s", f"2{NBSP}min"]
    assert [duration(s) for s in (5969, 5971)] == [f"99{NBSP}min", f"1.7{NBSP}h"]
    assert [percent(x) for x in (0.0994, 0.1234)] == [f"9.9{NBSP}%", f"12{NBSP}%"]
    assert [percent(x) for x in (0.00049, 0.00051)] == [f"<{NBSP}0.1{NBSP}%", f"0.1{NBSP}%"]
    assert percent(-0.25) == f"−25{NBSP}%"
    assert signed(0.0) == "0"
    assert percent(0.62) == f"62{NBSP}%"
    assert percent(0.028) == f"2.8{NBSP}%"
    assert percent(1.0) == f"100{NBSP}%"
    assert percent(1e-6) == f"<{NBSP}0.1{NBSP}%"
    assert percent(-1e-6) == f">{NBSP}−0.1{NBSP}%"
    assert signed(0.2) == "+0.200"
    assert signed(-0.2) == "−0.200"
