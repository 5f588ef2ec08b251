"""The results as one HTML file: tables, claims and figures, each number led back to its runs."""
