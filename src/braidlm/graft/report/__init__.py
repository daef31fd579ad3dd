"""Report of a graft: what the hybrid has lost and won against its donor, measured, as data and as a page."""
