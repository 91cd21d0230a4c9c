from __future__ import annotations

import cv2
import numpy as np
import pytest

from examples.ocr.detection import crop, find_boxes, prepare


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"),
    [(720, 960, 640, (480, 640)), (720, 960, 480, (352, 480)), (960, 720, 320, (320, 256)), (5, 2000, 320, (32, 320))],
)
def test_the_input_is_a_multiple_of_32_and_normalised(
    height: int, width: int, side: int, shape: tuple[int, int]
) -> None:
    tensor = prepare(np.full((height, width, 3), 255, np.uint8), side)
    assert tensor.shape == (1, 3, *shape)
    assert tensor.dtype == np.float32
    assert tensor[0, :, 0, 0] == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_a_likely_region_becomes_a_box_grown_and_scaled_to_the_page() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[20:31, 40:101] = 0.8
    (box,) = find_boxes(probability, width=256, height=256, threshold=0.4)
    # 60 x 10 between the outermost pixels' centres, grown by 60 * 10 * 1.4 / (2 * 70) = 6 on every side.
    assert box == pytest.approx(np.array([(34, 14), (106, 14), (106, 36), (34, 36)]) * (2, 4), abs=1e-3)


def test_specks_and_unsure_regions_are_no_lines() -> None:
    probability = np.zeros((64, 128), np.float32)
    probability[10:12, 10:60] = 0.9  # thinner than 3 pixels
    probability[30:41, 10:60] = 0.3  # text, but too unsure
    assert find_boxes(probability, 128, 64, threshold=0.4).shape == (0, 4, 2)
    assert len(find_boxes(probability, 128, 64, threshold=0.25)) == 1


def test_boxes_end_at_the_edge_of_the_page() -> None:
    boxes = find_boxes(np.full((32, 64), 0.9, np.float32), 640, 320, threshold=0.4)
    assert boxes[0] == pytest.approx(np.array([(0, 0), (640, 0), (640, 320), (0, 320)]))


def test_a_tilted_box_is_cut_out_upright() -> None:
    page = np.zeros((200, 300, 3), np.uint8)
    corners = cv2.boxPoints(((150, 100), (136, 46), 20))
    cv2.fillPoly(page, [np.round(corners).astype(np.int32)], (255, 255, 255))
    probability = np.zeros((200, 300), np.float32)
    cv2.fillPoly(probability, [np.round(cv2.boxPoints(((150, 100), (106, 16), 20))).astype(np.int32)], 1.0)
    (box,) = find_boxes(probability, 300, 200, threshold=0.4)
    upright = crop(page, box)
    assert upright.shape[1] > 3 * upright.shape[0]
    assert upright.mean() > 230, "all of it is the white bar"


def test_a_crop_is_as_large_as_its_box_up_to_a_height() -> None:
    page = np.zeros((900, 900, 3), np.uint8)
    box = np.array([(10, 10), (410, 10), (410, 40), (10, 40)], np.float32)
    assert crop(page, box).shape == (30, 400, 3)
    assert crop(page, box * 2).shape == (60, 800, 3)
    assert crop(page, box * (2, 8)).shape == (96, 320, 3)
    assert crop(page, np.repeat(box[:1], 4, axis=0)).shape == (1, 1, 3), "a box without extent"
