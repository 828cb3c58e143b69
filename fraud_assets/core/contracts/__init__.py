"""What a source delivers: contracts, and which names and columns they may ask for. Reading rows is not done here."""
