"""The audit: how well a victim can be stolen within a given time, at what price, and what helps; in one report.

`Request.of` says what is audited, `audit` runs it and yields its progress, and `write` makes the report of what is done.
"""

from dcp_core.audit.report import write
from dcp_core.audit.request import AuditError, Request
from dcp_core.audit.session import AuditProgress, audit

__all__ = ["AuditError", "AuditProgress", "Request", "audit", "write"]
