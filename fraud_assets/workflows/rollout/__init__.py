"""A version beside the champion: named as a challenger, compared with it on live traffic, replayed on what was kept."""
