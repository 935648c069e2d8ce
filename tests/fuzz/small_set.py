"""A data set of a few valid files of every kind, each written in milliseconds."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_small_set(root: Path, n: int = 3, size: int = 24) -> Path:
    """Write `n` good and `n` defective photographs of noise with masks, a table, a COCO file, JSON, NPZ and text."""
    random = np.random.default_rng(0)
    rows, images, annotations = ["path,label,defect_type,mask_path"], [], []
    for index in range(2 * n):
        label, suffix = index % 2, ("png", "jpg")[index // 2 % 2]
        path = root / ("good", "scratch")[label] / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
        mask_path = ""
        if label:
            mask = np.zeros((size, size), np.uint8)
            mask[2:9, 3:10] = 255
            (root / "masks").mkdir(exist_ok=True)
            mask_path = f"masks/{index}.png"
            Image.fromarray(mask).save(root / mask_path)
            annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": [3, 2, 7, 7]})
        rows.append(f"{path.relative_to(root).as_posix()},{label},{path.parent.name},{mask_path}")
        images.append({"id": index, "file_name": path.relative_to(root).as_posix(), "width": size, "height": size})
    (root / "catalog.csv").write_text("\n".join(rows) + "\n")
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "defect"}]}
    (root / "annotations.json").write_text(json.dumps(coco))
    (root / "run.json").write_text(json.dumps({"format": 1, "fold": 0, "settings": {"model": {"name": "vgg16"}}}))
    np.savez(root / "maps.npz", cells=random.normal(size=(2 * n, 3, 3)).astype(np.float32), paths=np.array(rows[1:]))
    (root / "config.yaml").write_text("fold: 0\n")
    return root
