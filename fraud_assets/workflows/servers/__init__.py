"""The servers that `fraud dev` starts. What they show belongs to `defs`, serving of models to `bentos`."""
