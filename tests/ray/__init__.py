"""Searches and trainings on real Ray clusters; skipped if Ray is not installed (`make ray`)."""
