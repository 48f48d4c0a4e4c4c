"""Housekeeping with the settings' own terms."""

from datetime import timedelta
from functools import partial

from app.ops.housekeeping import prune

KEPT = timedelta(days=7)
AUDIT_KEPT = timedelta(days=365)
house = partial(prune, kept=KEPT, audit_kept=AUDIT_KEPT)
