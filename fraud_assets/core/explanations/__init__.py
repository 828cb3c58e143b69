"""Why a score is what it is: attributions, reasons in words, and what a model makes of each feature; no scoring."""
