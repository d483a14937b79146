"""The door through which BentoML finds the service, in a checkout and in a built Bento alike.

BentoML puts the folder of ``bentofile.yaml`` on the path, but the source root of `totalanvi.serving` is this one.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from totalanvi.serving.endpoint.service import TotalanviService

__all__ = ["TotalanviService"]
