"""The tables that the assets fill, declared as data, a file a subject. Reading and writing them is not done here."""
