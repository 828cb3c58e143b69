"""From the rows of a delivery to canonical rows: types, times, and what is quarantined. No file is opened here."""
