"""What an audit says: as text, as data for machines, and as one self-contained page."""

from estimators.report.machine import audit_to_dict
from estimators.report.page import render
from estimators.report.text import audit_to_text

__all__ = ["audit_to_dict", "audit_to_text", "render"]
