"""The paper's tables: laid out from the spec, filled from the records, written in three forms."""
