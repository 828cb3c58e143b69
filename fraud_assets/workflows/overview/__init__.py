"""How the platform stands, as a whole: the checks of `fraud doctor` and the pages of `fraud page`."""
