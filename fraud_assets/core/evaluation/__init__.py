"""How models do on a window of transactions whose truth is known."""
