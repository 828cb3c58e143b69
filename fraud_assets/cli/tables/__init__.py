"""How the `fraud` command shows things to people, by subject; what is shown comes from `workflows`."""
