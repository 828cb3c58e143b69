"""Lists and rules beside the model, as people use them: changed, shown, and tried on stored months."""
