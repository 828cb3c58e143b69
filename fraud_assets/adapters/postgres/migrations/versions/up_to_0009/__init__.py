"""The first nine revisions. As those of `versions`: a file each, never changed once it has been released."""
