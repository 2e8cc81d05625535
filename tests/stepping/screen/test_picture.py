"""Arrays as pictures of few cells, and cells as colours."""

import numpy as np
import pytest

from minigpt.stepping.screen.picture import NOTHING, colours, picture


def test_a_picture_has_the_means_of_an_array():
    x = np.arange(24.0).reshape(1, 4, 6)
    cells, legend = picture(x, 2, 3)
    assert np.array_equal(cells, x.reshape(2, 2, 3, 2).mean(axis=(1, 3)))
    assert legend == "means of 2x2"
    cells, legend = picture(x, 8, 13)
    assert np.array_equal(cells, x[0].repeat(2, 0).repeat(2, 1))
    assert legend == ""


def test_a_picture_of_a_vector_runs_on():
    cells, legend = picture(np.arange(10.0).reshape(1, 1, 10), 4, 4)
    assert np.array_equal(cells.ravel(), [*range(10), NOTHING, NOTHING])
    assert legend == ""
    cells, legend = picture(np.arange(32.0), 2, 4)
    assert np.array_equal(cells, np.arange(32.0).reshape(2, 4, 4).mean(axis=2))
    assert legend == "means of 4"


def test_a_picture_of_sheets_lays_them_side_by_side():
    x = np.arange(3 * 2 * 4.0).reshape(1, 3, 2, 4)
    cells, legend = picture(x, 2, 14)
    gap = np.full((2, 1), NOTHING)
    assert np.array_equal(cells, np.hstack([x[0, 0], gap, x[0, 1], gap, x[0, 2]]))
    assert legend == "3 sheets of 2x4"
    cells, legend = picture(x, 2, 9)
    assert np.array_equal(cells, np.hstack([x[0, 0], gap, x[0, 1]]))
    assert legend == "2 of 3 sheets of 2x4"


@pytest.mark.parametrize("room", [(1, 1), (1, 7), (3, 2), (20, 60)])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 300), (7, 3), (2, 5, 9), (2, 1, 3, 40, 2)])
def test_a_picture_fits(shape, room):
    cells, _ = picture(np.ones(shape), *room)
    assert cells.shape[0] <= room[0]
    assert cells.shape[1] <= room[1]
    assert cells[cells != NOTHING] == pytest.approx(1)


@pytest.mark.parametrize("room", [(0, 5), (5, 0), (-2, 5)])
def test_no_room_no_picture(room):
    assert picture(np.ones(3), *room) == (None, "")
    assert picture(np.empty((0, 3)), 4, 4) == (None, "")


def test_colours_tell_sign_size_and_what_is_broken():
    ground, below, above, faint, broken = colours(np.array([0, -2.0, 2.0, 0.1, np.nan])).tolist()
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert sum(ground) < sum(faint) < sum(above)
    assert broken not in (ground, below, above)
