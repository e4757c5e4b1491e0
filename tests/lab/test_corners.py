"""Labs in headless Chromium where things are unusual: far below, names with commas, more classes than two, nobody falls."""

import torch

from pagkit import lab

from .visit import Visit


def test_names_with_commas_more_than_two_classes_and_a_game_that_nobody_loses(browser, tmp_path, nets, digits):
    cut = lab.sliced(nets["cnn silu"], digits.test.x[0], torch.eye(64)[[20, 30]])
    plane = lab.plane({"one, cut": cut}, classes=digits.classes, box=(-1, 1, -1, 1), settings={"target": 3}, name="p")
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        flat[1].weight.zero_(), flat[1].bias.zero_()
        flat[1].bias[3] = 1.0
    four = lab.digits({"flat, one": flat, "flat, two": flat, "three": flat}, digits, reader=False, name="d")
    page = lab.document(plane, four).replace(
        '<div class="pagkit-lab" id="lab-digits-d"', '<p style="height: 3000px"></p><div class="pagkit-lab" id="lab-digits-d"'
    )
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    opened = Visit(browser, tmp_path / "page.html")
    assert opened.waiting == 1  # what is far below is not built before a reader comes near
    page, told = opened.page, opened.page.locator(".lab-game [role=status]")
    page.get_by_label("Towards").select_option("5")
    assert opened.plane()["target"] == 5
    page.locator("#lab-digits-d > [role=status]").filter(has_text="flat, one; flat, two; and three are wrong").wait_for()
    page.get_by_role("button", name="Deal a digit").click()
    page.get_by_role("group", name="Which network falls first?").get_by_role("button", name="three").click()
    told.filter(has_text="A draw. This attack broke none of them, not even at eps 2.5").wait_for()
    assert "Score: 0 of 0." in told.text_content() and opened.digit()["eps"] == 2.5 and opened.complaints == []
    opened.context.close()
