"""Tests of the page of a grid."""

from apps.composition.grid_report import Setting, axis_pictures


def make_setting(values: dict[str, object], accuracy: float) -> Setting:
    return Setting(str(values), values, ([{"step": 1, "test_accuracy_long": accuracy}],) * 2)


def test_values_that_change_together_make_one_line_on_one_axis() -> None:
    zipped = [
        make_setting({"model.d_model": 16, "model.init_std": 0.1}, 0.2),
        make_setting({"model.d_model": 64, "model.init_std": 0.05}, 0.9),
    ]
    (picture,) = axis_pictures(zipped)
    assert picture.name == "test_accuracy_long_by_d_model"
    assert "all runs ends at 0.900" in picture.alt


def test_values_that_change_freely_are_lines_of_each_other() -> None:
    product = [
        make_setting({"model.d_model": d_model, "model.n_layers": n_layers}, 0.5)
        for d_model in (16, 64)
        for n_layers in (1, 2)
    ]
    by_width, by_depth = axis_pictures(product)
    assert (by_width.name, by_depth.name) == (
        "test_accuracy_long_by_d_model",
        "test_accuracy_long_by_n_layers",
    )
    assert "n_layers 1 ends at" in by_width.alt and "n_layers 2 ends at" in by_width.alt


def test_what_was_measured_at_one_place_only_is_no_line() -> None:
    once = [
        make_setting({"model.n_layers": 2}, 0.5),
        Setting("other", {"model.n_layers": 1}, ([{"step": 1}],) * 2),
    ]
    assert not list(axis_pictures(once))
