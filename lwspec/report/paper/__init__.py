"""The paper: its macros, its template filled and checked against the plan, and the PDF."""
