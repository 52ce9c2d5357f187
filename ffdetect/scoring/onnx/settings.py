"""What an exported folder holds beside its networks, one file of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffdetect.models.calibration import Calibration
from ffdetect.scoring.tta import check_tta
from preprocess.faces.face import CropSettings
from preprocess.io.formats import DAMAGED

NETWORK, WINDOWS, SETTINGS = "network.onnx", "windows.onnx", "detector.json"
_FORMAT, _VERSION = "ffdetect-onnx", 2


@dataclass(frozen=True)
class ExportSettings:
    """Attributes:
    crop: how faces are cut out.
    calibration: of the weights, None if they carry none.
    about: what the weights tell of their training.
    tta: the most views of a face that the networks can look at, a name of `scoring.tta.TTA`; with
        "flip+crops" `WINDOWS` is for those that are smaller than the crop.
    """

    crop: CropSettings
    calibration: Calibration | None
    about: dict[str, Any]
    tta: str

    def write(self, folder: Path) -> None:
        values = {
            "format": _FORMAT,
            "version": _VERSION,
            "crop": self.crop.to_dict(),
            "calibration": self.calibration and self.calibration.to_dict(),
            "about": self.about,
            "tta": self.tta,
        }
        (folder / SETTINGS).write_text(json.dumps(values, indent=1, default=str) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> ExportSettings:
        """Raises ValueError for a folder that `ffdetect export` did not write."""
        file = folder / SETTINGS
        try:
            values = json.loads(file.read_text("utf-8"))
            if (values["format"], values["version"]) != (_FORMAT, _VERSION):
                got = f"{values['format']} {values['version']}"
                raise ValueError(f"expected {_FORMAT} {_VERSION} but got {got}")
            calibration = values["calibration"] and Calibration.from_dict(values["calibration"])
            check_tta(values["tta"])
            crop = CropSettings(**values["crop"])
            return cls(crop, calibration, dict(values["about"]), values["tta"])
        except OSError as error:
            reason = error.strerror or error
            wanted = "expected a folder written by ffdetect export"
            raise ValueError(f"{folder}: {wanted} but {SETTINGS}: {reason}") from error
        except DAMAGED as error:
            raise ValueError(f"{file}: expected settings of an export: {error}") from error
