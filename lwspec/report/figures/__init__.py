"""The paper's figures: panels computed from the records, drawn as vector PDF."""
